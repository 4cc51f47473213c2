"""``relaxcert check``: re-check certificates with the independent checker."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from relaxcert import checker
from relaxcert.cli.common import Json, console, load_points
from relaxcert.errors import InvalidInput
from relaxcert.report.verdicts import to_json
from relaxcert.training.progress import bar

REJECTED = 3


def check(
    certificate: Annotated[Path, typer.Argument(help="Written by relaxcert certify --proof.")],
    model: Annotated[Path, typer.Option(help="The model file that was certified.")],
    data: Annotated[
        str, typer.Option(help="The points: a .npz (x), .npy or .csv file, or landsat:test.")
    ],
    scale: Annotated[
        float, typer.Option(min=1e-30, help="As given to relaxcert certify: divide by this.")
    ] = 1.0,
    digest: Annotated[
        str | None,
        typer.Option(help="SHA-256 of the wanted property, if it is not the model's own."),
    ] = None,
    json: Json = False,
) -> None:
    """Re-check certificates: exit status 0 if all are proved, 3 if a claim is wrong, 2 if unread.

    The checker shares no code with what certified. It recomputes the logits in ball arithmetic,
    re-proves the bound of each layer from its witness, and evaluates the property by itself.

    Example: [bold]relaxcert check rt3.cert --model relaxcert-demo/landsat-rt3.safetensors --data
    landsat:test[/bold]
    """
    named = data.partition(":")[0] == "landsat" and not Path(data).exists()
    points = load_points(data, None)[0].numpy() if named else data
    try:
        with bar() as progress:
            task = progress.add_task("checking", total=None)
            accepted = checker.check(
                certificate,
                model=model,
                data=points,
                scale=scale,
                digest=digest,
                progress=lambda count: progress.advance(task, count),
            )
    except checker.Unreadable as error:
        raise InvalidInput(str(error)) from error
    except checker.Rejected as error:
        if json:
            step = {"step": error.step, "point": error.point, "reason": str(error)}
            typer.echo(to_json({"accepted": False, **step}, indent=2))
        else:
            screen = Console(stderr=True, soft_wrap=True)
            screen.print(f"rejected: {error}", style="bold", markup=False, highlight=False)
        raise typer.Exit(REJECTED) from error
    if json:
        typer.echo(to_json({"accepted": True, **asdict(accepted)}, indent=2))
        return
    console().print(
        f"accepted: {accepted.certified} of {accepted.points} points are proved to have the "
        f"property\n{accepted.property}\nsha256 {accepted.digest}\nweights sha256 "
        f"{accepted.weights}",
        markup=False,
        soft_wrap=True,
    )
