"""What mkdocs does beside its plugins: write the command line's page, mend roles in docstrings."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

from mkdocs.structure.files import File

HERE = Path(__file__).parent


def on_files(files: Any, config: Any) -> Any:
    """Add cli.md, made from the commands as they are now: it cannot be out of date."""
    specification = importlib.util.spec_from_file_location("cli_page", HERE / "cli_page.py")
    module = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(module)
    files.append(File.generated(config, "cli.md", content=module.cli_page()))
    return files
