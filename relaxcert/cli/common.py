"""What the commands share: options, devices, data, tables."""

from __future__ import annotations

import math
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import torch
import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table
from torch import Tensor, nn

from relaxcert.data.files import read_points
from relaxcert.data.images.parts import image_part, image_tensors
from relaxcert.data.landsat import Split, landsat
from relaxcert.data.letter import letter
from relaxcert.errors import InvalidInput
from relaxcert.heads.gloronet import GloRoNet
from relaxcert.heads.model_file import Model, load_model
from relaxcert.lipschitz.verified import VerifiedBounds
from relaxcert.nn.elementwise import Diagonal
from relaxcert.nn.layers import InputNormalisation
from relaxcert.nn.rearrange import Rearrange
from relaxcert.spec.catalogue import load_document
from relaxcert.spec.property import Property
from relaxcert.training.evaluation import Figures
from relaxcert.training.progress import bar

NOT_MET, UNSOUND = 1, 3
# The data that ship, by the name that --data takes.
EMBEDDED = {"landsat": landsat, "letter": letter}

Device = Annotated[str, typer.Option("--device", help="Where to compute: cpu, cuda, cuda:1, ... .")]
Seed = Annotated[
    int, typer.Option("--seed", min=0, max=2**63 - 1, help="Seed of everything random.")
]
ModelPath = Annotated[
    Path,
    typer.Argument(help="A model file of relaxcert, or an .onnx or .nnet file with --property."),
]
PropertyOption = Annotated[
    str | None,
    typer.Option(
        "--property",
        help="A property of the catalogue or a .toml; in place of the model's own, if it has one.",
    ),
]
BestOption = Annotated[
    str | None,
    typer.Option(
        "--best",
        help="Which score is the advice: min or max. Default: max for .onnx, min for .nnet.",
    ),
]
Json = Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")]

# One console a call: standard output may have been replaced since the module was loaded.


class NotMet(Exception):
    """A requirement that the user asked to be checked does not hold: exit status 1."""


def console() -> Console:
    """Standard output; as wide as needed when it is not a terminal."""
    # Without emoji, which rich makes of the colons in landsat:train:.
    plain = Console(emoji=False)
    return plain if plain.is_terminal else Console(width=120, emoji=False)


def device_of(name: str) -> torch.device:
    """The device of that name.

    Raises:
        InvalidInput: no such device here.
    """
    try:
        device = torch.device(name)
        torch.empty(1, device=device)
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        first = str(error).splitlines()[0]
        raise InvalidInput(
            f"--device {name!r} cannot be used here ({first}): use --device cpu."
        ) from error
    return device


def load_net(model: Path, prop: str | None, best: str | None, device: str = "cpu") -> Model:
    """A network of any known format, with its own property or the one of --property.

    Raises:
        InvalidInput: --best is another word, or --property is missing.
        ModelFileError, DocumentError, InvalidProperty, UnsupportedLayer: what does not fit.
    """
    if best not in (None, "min", "max"):
        raise InvalidInput(f"--best {best} must be min or max: which score is the advice?")
    where = device_of(device)
    document = None if prop is None else load_document(prop)
    if model.suffix.lower() not in (".onnx", ".nnet"):
        if best is not None:
            raise InvalidInput(f"--best {best} is for .onnx and .nnet files only.")
        if document is None:
            # A model file may have any name.
            return load_model(model, device=where)
    from relaxcert.interop.network_files import load_network  # onnx, which few calls need

    wanted = None if document is None else document.to_property()
    found = load_network(model, wanted, best=best, device=where)
    if document is not None:
        document.check_classes(found.net.num_classes)
    return found


def prove(
    net: GloRoNet, shape: tuple[int, ...] | None = None, *, tight: bool | None = None
) -> VerifiedBounds:
    """``net.verify`` with a bar that counts the layers."""
    with bar() as progress:
        task = progress.add_task("proving bounds", total=None)
        return net.verify(
            shape,
            tight=tight,
            on_layer=lambda _, total: progress.update(task, advance=1, total=total),
        )


def load_points(data: str, net: GloRoNet | None) -> tuple[Tensor, Tensor | None]:
    """Points and labels of landsat, letter, hcas or an image folder, with ``:PART``; or a file."""
    name, _, part = data.partition(":")
    if name in EMBEDDED and not Path(data).exists():
        split = EMBEDDED[name](_part(name, part or "test"))
        return split.inputs, split.labels
    if name == "hcas" and not Path(data).exists():
        split = _hcas_part(part or "test")
        return split.inputs, split.labels
    images = image_part(data)
    if images is not None:
        split = image_tensors(*images)
        return split.inputs, split.labels
    features = None if net is None else features_of(net)
    classes = None if net is None else net.num_classes
    return read_points(data, features=features, num_classes=classes)


def _part(name: str, part: str):  # noqa: ANN202 - the literal type is the readers' own
    if part not in ("train", "test", "fit", "validation"):
        raise InvalidInput(
            f"--data {name}:{part} is not a part: use {name}:train, :test, :fit or :validation."
        )
    return part


def _hcas_part(part: str) -> Split:
    from relaxcert.data.hcas import hcas  # scipy, which the other commands do not need
    from relaxcert.data.rejection import PARTS

    if part not in PARTS:
        known = ", ".join(f":{name}" for name in PARTS)
        raise InvalidInput(f"--data hcas:{part} is not a part: use hcas with {known}.")
    return hcas()[part]


_SAME_FEATURES = (nn.Flatten, nn.Identity, nn.Dropout, nn.BatchNorm1d, InputNormalisation, Diagonal)


def features_of(net: GloRoNet) -> int | None:
    """The number of features a point that a network takes, if its first linear layer tells."""
    shape = net.lipschitz.input_shape
    if shape is not None:
        return math.prod(shape)
    for node in net.lipschitz.live_graph().layers:
        if isinstance(node.layer, nn.Linear):
            return node.layer.in_features
        if isinstance(node.layer, Rearrange):
            return node.layer.count
        if not isinstance(node.layer, _SAME_FEATURES):
            return None  # a convolution, say: what a later linear layer takes is another number
    return None


def quiet_warnings() -> None:
    """Show our own warnings as one line, without the code that raised them."""
    warnings.showwarning = lambda message, *_, **__: Console(stderr=True, soft_wrap=True).print(  # pyright: ignore[reportUnknownLambdaType]
        f"warning: {message}", markup=False, highlight=False
    )


def property_in_words(prop: Property) -> str:
    """A property on one line."""
    return repr(prop) if len(repr(prop)) <= 90 else repr(prop)[:87] + "..."


def table(title: str, columns: Sequence[str], rows: Sequence[Sequence[str]]) -> Table:
    """A plain table: the first column left, the others right."""
    # The clean accuracy of Local is the top-1 accuracy: shown once.
    once = [i for i, name in enumerate(columns) if i == 0 or name != columns[i - 1]]
    columns, rows = (
        [columns[i] for i in once],
        [[row[i] for i in once if i < len(row)] for row in rows],
    )
    result = Table(title=escape(title), title_justify="left", title_style="bold")
    for index, name in enumerate(columns):
        result.add_column(name, justify="left" if index == 0 else "right", no_wrap=index == 0)
    for row in rows:
        result.add_row(*map(escape, row))
    return result


def figure_cells(figures: Figures) -> list[str]:
    """VRA, rejection rate, clean accuracy, top-1 accuracy, as text."""
    values = (
        figures.vra,
        figures.rejection_rate,
        figures.clean_accuracy,
        figures.top1_accuracy,
    )
    return [f"{value:.3f}" for value in values]
