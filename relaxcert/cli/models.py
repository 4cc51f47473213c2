"""``relaxcert models``: the architectures, with weights, operations and bounds."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from relaxcert.cli.common import Json, Seed, console, table
from relaxcert.cli.parts import load_training
from relaxcert.data.landsat import Split
from relaxcert.errors import InvalidInput, suggestion
from relaxcert.heads.gloronet import GloRoNet
from relaxcert.report.architecture import flops_of, in_thousands, parameters_of
from relaxcert.report.verdicts import to_json
from relaxcert.spec import Local
from relaxcert.training.architectures import ARCHITECTURES, Listed
from relaxcert.training.progress import bar


def models(
    names: Annotated[
        list[str] | None, typer.Argument(help="Which ones, e.g. liresnet. Default: all.")
    ] = None,
    shape: Annotated[
        str, typer.Option(help="Shape of one point: 3,32,32 (channels, height, width), or 36.")
    ] = "3,32,32",
    classes: Annotated[int, typer.Option(min=2, help="Number of classes.")] = 100,
    data: Annotated[
        str | None,
        typer.Option(help="Take shape and classes from these points, as for train: landsat:train."),
    ] = None,
    seed: Seed = 0,
    json: Json = False,
) -> None:
    """List the architectures that recipes can name, for one shape of data.

    Parameters; operations of a forward pass; the verified bound in l2 of the weights from which
    training starts: of the map to the last layer, and of the steepest difference of two logits.

    Example: [bold]relaxcert models --shape 3,32,32 --classes 100[/bold]

    Example: [bold]relaxcert models conv liresnet --data cifar-100-binary[/bold]
    """
    chosen = _chosen(names)
    sizes, count = (_sizes(shape), classes) if data is None else _of_data(data)
    rows: list[dict[str, Any]] = []
    with bar() as progress:
        task = progress.add_task("proving bounds", total=len(chosen))
        for name, listed in chosen.items():
            rows.append(
                {"name": name, "title": listed.title, **_figures(listed, sizes, count, seed)}
            )
            progress.advance(task)
    if json:
        content = {"shape": list(sizes), "classes": count, "seed": seed, "models": rows}
        typer.echo(to_json(content, indent=2))
        return
    cells = [
        [row["name"], row["title"], "-", "-", "-", "-"]
        if row["reason"]
        else [
            row["name"],
            row["title"],
            f"{row['parameters']:,}",
            in_thousands(row["flops"]),
            f"{row['product_before_last']:.4g}",
            f"{row['largest_difference']:.4g}",
        ]
        for row in rows
    ]
    columns = ("name", "what", "parameters", "operations", "bound", "of a difference")
    size = " x ".join(map(str, sizes))
    console().print(table(f"{size} and {count} classes, untrained, l2", columns, cells))
    for row in rows:
        if row["reason"]:
            console().print(f"{row['name']} does not fit: {row['reason']}", markup=False)


def _figures(listed: Listed, shape: tuple[int, ...], classes: int, seed: int) -> dict[str, Any]:
    try:
        backbone = listed.build(shape, classes, seed)
    except InvalidInput as error:
        return {"reason": str(error)}
    net = GloRoNet(backbone, Local(eps=1), input_shape=shape)
    proved = net.verify().norms["l2"]
    return {
        "reason": None,
        "parameters": parameters_of(backbone),
        "flops": flops_of(backbone, shape),
        "product_before_last": proved.product,
        "largest_difference": proved.product * float(proved.distances.largest),
    }


def _chosen(names: list[str] | None) -> dict[str, Listed]:
    for name in names or ():
        if name not in ARCHITECTURES:
            raise InvalidInput(
                f"model {name!r} does not exist.{suggestion(name, ARCHITECTURES)} "
                f"Known: {', '.join(ARCHITECTURES)}."
            )
    return {name: ARCHITECTURES[name] for name in names or ARCHITECTURES}


def _sizes(text: str) -> tuple[int, ...]:
    parts = text.split(",")
    if not all(part.strip().isdecimal() and 0 < int(part) < 2**16 for part in parts):
        raise InvalidInput(
            f"--shape {text} must be positive numbers between commas, such as 3,32,32 or 36."
        )
    return tuple(int(part) for part in parts)


def _of_data(data: str) -> tuple[tuple[int, ...], int]:
    """Shape and number of classes of labelled points."""
    folder = Path(data)
    points = load_training(str(folder / "train.npz") if (folder / "train.npz").is_file() else data)
    names = points.class_names
    count = len(names) if names else int(points.labels.max()) + 1
    shape = tuple(points.inputs.shape[1:]) if isinstance(points, Split) else points.shape
    return shape, max(2, count)
