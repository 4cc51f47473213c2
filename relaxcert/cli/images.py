"""``relaxcert data check``: what a folder of images holds."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from relaxcert.cli.common import Json, console, table
from relaxcert.data.images.found import Found, checksum, counts, find_images
from relaxcert.data.images.sets import ImageSet
from relaxcert.report.contact_sheet import contact_sheet
from relaxcert.report.verdicts import to_json

_SHOWN = 12


def check(
    folder: Annotated[Path, typer.Argument(help="A folder that holds an image set.")],
    sheet: Annotated[
        Path | None, typer.Option(help="Draw the first images of each class into this PNG.")
    ] = None,
    json: Json = False,
) -> None:
    """Say what a folder of images holds: which set, its parts, counts, checksums, class names.

    Knows CIFAR-100 (binary and python version), EuroSAT RGB, Tiny-ImageNet, Fashion-MNIST, sets
    that Hugging Face datasets saved, and any folder with one folder a class. Nothing in a file is
    ever run.

    Example: [bold]relaxcert data check cifar-100-binary --sheet samples.png[/bold]
    """
    found = find_images(folder)
    drawn = None
    if sheet is not None:
        drawn = contact_sheet(next(iter(found.parts.values())), sheet)
    if json:
        typer.echo(to_json(_as_dict(found, drawn), indent=2))
        return
    screen = console()
    screen.print(f"{folder} holds {found.kind}", markup=False)
    rows: list[list[str]] = []
    for name, images in found.parts.items():
        size = " x ".join(map(str, images.shape))
        rows.append([name, f"{len(images):,}", size, _range(images), checksum(images) or "-"])
    columns = ("part", "images", "size", "images a class", "SHA-256 of labels and bytes")
    screen.print(table("Parts", columns, rows))
    names = next(iter(found.parts.values())).class_names
    more = f", ... ({len(names)} in all)" if len(names) > _SHOWN else ""
    screen.print(f"classes: {', '.join(names[:_SHOWN])}{more}", markup=False)
    for remark in found.remarks:
        screen.print(f"note: {remark}", markup=False)
    if drawn is not None:
        screen.print(f"samples drawn in {drawn}", markup=False)


def _range(images: ImageSet) -> str:
    numbers = list(counts(images).values())
    return str(numbers[0]) if min(numbers) == max(numbers) else f"{min(numbers)} to {max(numbers)}"


def _as_dict(found: Found, drawn: Path | None) -> dict[str, object]:
    return {
        "kind": found.kind,
        "parts": {
            name: {
                "images": len(images),
                "shape": list(images.shape),
                "counts": counts(images),
                "sha256": checksum(images),
            }
            for name, images in found.parts.items()
        },
        "remarks": list(found.remarks),
        "sheet": None if drawn is None else str(drawn),
    }
