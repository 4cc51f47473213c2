"""``relaxcert bounds``: the verified bound of each layer."""

from __future__ import annotations

from dataclasses import asdict

import typer

from relaxcert.cli.common import (
    BestOption,
    Device,
    Json,
    ModelPath,
    PropertyOption,
    console,
    load_net,
    table,
)
from relaxcert.report.verdicts import to_json


def bounds(
    model: ModelPath,
    prop: PropertyOption = None,
    best: BestOption = None,
    device: Device = "cpu",
    json: Json = False,
) -> None:
    """Print the verified Lipschitz bound of each layer of a model.

    Example: [bold]relaxcert bounds relaxcert-demo/landsat-rt3.safetensors[/bold]
    """
    net = load_net(model, prop, best, device).net
    rows = net.lipschitz.table()
    proved = net.verify()
    if json:
        products = {norm: found.product for norm, found in proved.norms.items()}
        content = {"layers": [asdict(row) for row in rows], "product_before_last": products}
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
