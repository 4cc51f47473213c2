"""Notebooks of three examples, made from the files, so that there is one text of each.

    python examples/notebooks/make.py        # writes them anew; a test says when that is due

A notebook is JSON (nbformat 4.5), written here without a library: a cell for the docstring, one for
the imports and definitions, and one for each paragraph of ``main``.
"""

import ast
import hashlib
import json
import textwrap
from pathlib import Path

HERE = Path(__file__).parent
NAMES = ("quickstart", "letter", "verify_onnx")


def notebook(source: str) -> str:
    """The text of the notebook of an example."""
    tree = ast.parse(source)
    lines = source.splitlines()
    main = next(n for n in tree.body if isinstance(n, ast.FunctionDef) and n.name == "main")
    before = "\n".join(lines[tree.body[0].end_lineno : main.lineno - 1]).strip()
    body = textwrap.dedent("\n".join(lines[main.body[0].lineno - 1 : main.end_lineno]))
    cells = [_cell("markdown", ast.get_docstring(tree) or ""), _cell("code", before)]
    cells += [_cell("code", paragraph) for paragraph in body.split("\n\n")]
    kernel = {"display_name": "Python 3", "language": "python", "name": "python3"}
    content = {
        "cells": cells,
        "metadata": {"kernelspec": kernel},
        "nbformat": 4,
        "nbformat_minor": 5,
    }
    return json.dumps(content, indent=1, sort_keys=True, ensure_ascii=False) + "\n"


def _cell(kind: str, text: str) -> dict[str, object]:
    outputs = {"execution_count": None, "outputs": []} if kind == "code" else {}
    return {
        "cell_type": kind,
        "id": hashlib.sha256(text.encode()).hexdigest()[:12],
        "metadata": {},
        "source": text.splitlines(keepends=True),
        **outputs,
    }


def main() -> None:
    for name in NAMES:
        text = notebook((HERE.parent / f"{name}.py").read_text("utf-8"))
        (HERE / f"{name}.ipynb").write_text(text, encoding="utf-8")
        print(f"{name}.ipynb")


if __name__ == "__main__":
    main()
