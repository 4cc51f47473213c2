"""The house of design.md, section 3: imports go downwards only."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from importlib.util import resolve_name
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[2] / "relaxcert"
FLOORS = {
    "errors": 0,
    "files": 0,
    "checker": 0,
    "spec": 1,
    "nn": 2,
    "lipschitz": 2,
    "heads": 3,
    "training": 4,
    "data": 4,
    "metrics": 4,
    "proofs": 4,
    "attacks": 5,
    "smt": 5,
    "interop": 5,
    "testing": 6,
    "checks": 7,
    "report": 6,
    "cli": 7,
    "__main__": 8,
    "__init__": 8,
}
MODULES = sorted(PACKAGE.rglob("*.py"))


def imports_of(path: Path) -> Iterator[tuple[str, int]]:
    """Every part of relaxcert that a file names in an import, wherever the import stands."""
    package = ".".join(path.relative_to(PACKAGE.parent).parent.parts)
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            start = resolve_name("." * node.level + (node.module or ""), package)
            names = [f"{start}.{alias.name}" for alias in node.names]
        else:
            continue
        for name in names:
            parts = name.split(".")
            if parts[0] == "relaxcert":
                yield parts[1] if len(parts) > 1 else "__init__", node.lineno


def part_of(path: Path) -> str:
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def test_every_part_has_a_floor():
    assert {part_of(path) for path in MODULES} <= FLOORS.keys()


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_imports_go_downwards_only(path):
    own = FLOORS[part_of(path)]
    for part, line in imports_of(path):
        if part == "__version__":
            continue  # a text, which stamps what is written
        assert part in FLOORS, f"{path}:{line} imports {part} by way of relaxcert itself"
        assert FLOORS[part] <= own, f"{path}:{line} imports {part}, which is above"


def test_the_checker_shares_no_code_with_what_it_checks():
    """Neither by import nor, as torch would show, by way of something else."""
    files = [path for path in MODULES if part_of(path) == "checker"]
    assert files
    assert {part for path in files for part, _ in imports_of(path)} == {"checker"}
    loaded = modules_after("import relaxcert.checker.verification")
    assert "flint" in loaded
    assert not loaded & {"torch", "scipy", "pydantic", "typer", "rich"}


def modules_after(statement: str) -> set[str]:
    code = f"{statement}\nimport sys\nprint('\\n'.join(sys.modules))"
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=PACKAGE.parent,
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    return {name.partition(".")[0] for name in done.stdout.splitlines()}


def test_the_property_layer_needs_no_torch():
    loaded = modules_after(
        "import relaxcert.spec, relaxcert\n"
        "relaxcert.load_property('landsat/soils'), relaxcert.RelaxedTopK(3, eps=1)"
    )
    assert "relaxcert" in loaded
    assert not loaded & {"torch", "numpy", "torchmetrics", "matplotlib", "typer"}


def test_everything_public_exists_and_is_at_most_15_names():
    import relaxcert

    assert len(relaxcert.__all__) <= 15
    assert sorted(relaxcert.__all__) == list(relaxcert.__all__)
    for name in relaxcert.__all__:
        assert getattr(relaxcert, name) is not None
        assert name in dir(relaxcert)
    with pytest.raises(AttributeError, match="no attribute 'Lokal'"):
        _ = relaxcert.Lokal


def test_no_assert_guards_input():
    found = [
        f"{path}:{node.lineno}"
        for path in MODULES
        for node in ast.walk(ast.parse(path.read_text("utf-8")))
        if isinstance(node, ast.Assert)
    ]
    assert found == []
