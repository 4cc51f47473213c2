"""``python -m relaxcert``: the command line, where the script is not on the path."""

from relaxcert.cli import main

if __name__ == "__main__":
    main()
