"""``relaxcert bounds``: the verified bound of each layer."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated, Any

import torch
import typer
from torch import Tensor

from relaxcert.cli.common import (
    BestOption,
    Device,
    Json,
    ModelPath,
    PropertyOption,
    console,
    features_of,
    load_net,
    load_points,
    prove,
    table,
)
from relaxcert.errors import InvalidInput
from relaxcert.heads.gloronet import GloRoNet
from relaxcert.lipschitz import tightness as compared
from relaxcert.report.verdicts import to_json

_MOST_POINTS = 64  # near which slopes are sought


def bounds(
    model: ModelPath,
    prop: PropertyOption = None,
    best: BestOption = None,
    tightness: Annotated[
        bool, typer.Option("--tightness", help="Compare with the steepest slope found.")
    ] = False,
    data: Annotated[
        str | None,
        typer.Option(help="Points for --tightness, as for certify; default: random in [0, 1]."),
    ] = None,
    tight: Annotated[
        bool, typer.Option("--tight", help="Take more time for smaller bounds of convolutions.")
    ] = False,
    device: Device = "cpu",
    json: Json = False,
) -> None:
    """Print the verified Lipschitz bound of each layer of a model.

    Example: [bold]relaxcert bounds relaxcert-demo/landsat-rt3.safetensors[/bold]

    Example: [bold]relaxcert bounds model.safetensors --tightness --data landsat:test[/bold]
    """
    net = load_net(model, prop, best, device).net
    proved = prove(net, tight=tight or None)
    rows = net.lipschitz.table()
    slopes = compared(net, _points(net, data)) if tightness else ()
    if json:
        products = {norm: found.product for norm, found in proved.norms.items()}
        content: dict[str, Any] = {
            "layers": [asdict(row) for row in rows],
            "product_before_last": products,
        }
        if tightness:
            content["tightness"] = [asdict(row) | {"ratio": row.ratio} for row in slopes]
        typer.echo(to_json({"weights_sha256": proved.fingerprint, **content}, indent=2))
        return
    cells = [[row.path, row.kind, row.norm, f"{row.bound:.9g}", row.method] for row in rows]
    columns = ("layer", "kind", "norm", "bound", "how it was proved")
    console().print(table(f"Verified bounds of {model}", columns, cells))
    for norm, found in proved.norms.items():
        largest = float(found.distances.largest)
        console().print(
            f"{norm}: product before the last layer {found.product:.9g}; "
            f"largest constant of a logit difference {found.product * largest:.9g}"
        )
    for row in slopes:
        console().print(
            f"{row.norm}: the bound of classes {row.pair[0]} and {row.pair[1]} is {row.bound:.6g}, "
            f"the steepest slope found {row.found:.6g} ({row.how}): ratio {row.ratio:.3f}"
        )


def _points(net: GloRoNet, data: str | None) -> Tensor:
    """Points of a file, or random ones of the network's shape."""
    if data is not None:
        return load_points(data, net)[0][:_MOST_POINTS]
    features = features_of(net)
    shape = net.lipschitz.input_shape or (None if features is None else (features,))
    if shape is None:
        raise InvalidInput("--tightness needs --data: the network does not tell its input's shape.")
    return torch.rand(_MOST_POINTS, *shape, generator=torch.Generator().manual_seed(0))
