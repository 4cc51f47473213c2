"""``relaxcert report``: one page that shows what was certified."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Annotated

import typer
from torch import Tensor

from relaxcert.cli.common import Json, console, load_points
from relaxcert.data.files import read_points
from relaxcert.errors import InvalidInput, RelaxcertError
from relaxcert.report.page import Section, section, title_of, write_report
from relaxcert.report.provenance import points_sha256
from relaxcert.report.run import Run, find_runs, read_run
from relaxcert.report.verdicts import to_json
from relaxcert.training.progress import bar

_FILES = (".npz", ".npy", ".csv")


def report(
    verdicts: Annotated[
        Path,
        typer.Argument(
            help="A folder that certify --out, train or demo wrote; runs in it are compared."
        ),
    ],
    out: Annotated[Path, typer.Option("--out", "-o", help="The page.")] = Path("report.html"),
    data: Annotated[
        str | None,
        typer.Option(help="The points, if they are elsewhere than when they were certified."),
    ] = None,
    attack: Annotated[
        Path | None,
        typer.Option(help="What relaxcert attack --summary wrote; default: beside the verdicts."),
    ] = None,
    crosscheck: Annotated[
        Path | None,
        typer.Option(help="What relaxcert crosscheck --out wrote; default: beside the verdicts."),
    ] = None,
    title: Annotated[str | None, typer.Option(help="Title of the page.")] = None,
    json: Json = False,
) -> None:
    """Make one self-contained HTML page from verdict files.

    The property in words, figures, curves against eps, which classes are certified together, the
    points on the edge, and how to reproduce it all. Opens from disk, prints, needs no network.

    Example: [bold]relaxcert report relaxcert-demo -o report.html[/bold]

    Example: [bold]relaxcert report verdicts -o report.html --crosscheck crosscheck[/bold]
    """
    folders = find_runs(verdicts)
    if len(folders) > 1 and (attack is not None or crosscheck is not None):
        raise InvalidInput(
            f"--attack and --crosscheck are about one run, but {verdicts} holds {len(folders)}: "
            "give the folder of one."
        )
    sections: list[Section] = []
    with bar() as progress:
        task = progress.add_task("reading and drawing", total=len(folders))
        for number, folder in enumerate(folders):
            run = read_run(folder)
            inputs, why = _points(run, data)
            sections.append(
                section(
                    run,
                    f"run{number}",
                    inputs,
                    why_no_inputs=why,
                    attack=attack,
                    crosscheck=crosscheck,
                )
            )
            progress.advance(task)
    path = write_report(sections, out, title=title or title_of([part.run for part in sections]))
    if json:
        runs = [
            {"run": part.run.name, "points": len(part.run), "digest": part.run.summary.digest}
            for part in sections
        ]
        typer.echo(
            to_json({"report": str(path), "bytes": path.stat().st_size, "runs": runs}, indent=2)
        )
        return
    for part in sections:
        note = "" if part.has_inputs else f" ({part.why_no_inputs})"
        console().print(
            f"{part.run.name}: {len(part.run)} points{note}", markup=False, soft_wrap=True
        )
    console().print(f"report in {path} ({path.stat().st_size / 1e6:.2f} MB)", markup=False)


def _points(run: Run, data: str | None) -> tuple[Tensor | None, str]:
    """The points that were certified, or why they cannot be shown."""
    summary = run.summary
    source = summary.data if data is None else data
    if not source:
        return None, "The verdict files do not say which data they are about; give --data."
    try:
        inputs = _load(source, summary.input_shape)
    except (RelaxcertError, OSError) as error:
        if data is not None:
            raise
        return None, f"The points are not shown: {error}"
    inputs = inputs / summary.scale if summary.scale != 1.0 else inputs
    expected = summary.data_sha256
    same = points_sha256(inputs) == expected if expected else len(inputs) == len(run)
    if same:
        return inputs, ""
    problem = f"{source} does not hold the points that were certified (SHA-256 or number differ)"
    if data is not None:
        raise InvalidInput(f"--data {problem}: give the same data.")
    return None, f"The points are not shown: {problem}."


def _load(source: str, shape: list[int]) -> Tensor:
    path = Path(source)
    if path.suffix.lower() in _FILES and path.is_file():
        return read_points(path, features=math.prod(shape) if shape else None)[0]
    return load_points(source, None)[0]
