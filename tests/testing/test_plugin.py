"""The plugin is light, and registered once however it is asked for."""

from __future__ import annotations

import os
import subprocess
import sys
import tomllib
from pathlib import Path

ROOT = Path(__file__).parents[2]


def run(*arguments: str, folder: Path, path: str = str(ROOT)) -> subprocess.CompletedProcess:
    return subprocess.run(
        [sys.executable, *arguments],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": path, "PYTEST_DISABLE_PLUGIN_AUTOLOAD": ""},
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )


def test_importing_the_plugin_loads_nothing_heavy(tmp_path):
    code = "import relaxcert.testing.plugin, sys; print('\\n'.join(sys.modules))"
    loaded = run("-c", code, folder=tmp_path).stdout.split()
    assert "relaxcert.testing.plugin" in loaded
    heavy = {"torch", "numpy", "hypothesis", "pydantic", "typer", "z3", "relaxcert.spec"}
    assert not heavy & set(loaded)


def test_the_entry_point_works_beside_the_option_p(tmp_path):
    """An installation as pip would leave it, without pip."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    (entry,) = project["entry-points"]["pytest11"].items()
    info = tmp_path / "site" / "relaxcert_entry-0.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: relaxcert-entry\nVersion: 0\n")
    (info / "entry_points.txt").write_text("[pytest11]\n{} = {}\n".format(*entry))
    (tmp_path / "test_one.py").write_text(
        "import sys\n\ndef test_light():\n    assert 'torch' not in sys.modules\n"
    )
    path = os.pathsep.join([str(ROOT), str(tmp_path / "site")])
    for more in ([], ["-p", "relaxcert.testing.plugin"]):
        done = run(
            "-m", "pytest", *more, "-q", "-p", "no:cacheprovider", "--relaxcert-out", "x",
            folder=tmp_path, path=path,
        )  # fmt: skip
        assert done.returncode == 0, done.stdout + done.stderr
        assert "verification report" not in done.stdout
