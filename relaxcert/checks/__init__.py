"""What ``pytest --pyargs relaxcert.checks`` runs: the checks of one network on given points."""
