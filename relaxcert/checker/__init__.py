"""An independent checker of certificates: it imports nothing else of relaxcert, and no torch.

    accepted = relaxcert.checker.check("out.cert", model="model.safetensors", data="points.npz")

A certificate file holds claims. The checker recomputes the logits in ball arithmetic from the
model file and the data, re-proves the bound of each layer from its witness, recomputes all margins
and evaluates the property by itself. It needs python-flint: pip install relaxcert[check].
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from relaxcert.checker.certificate import read_certificate
from relaxcert.checker.outcome import Accepted, Rejected, Unreadable

if TYPE_CHECKING:
    import numpy as np

__all__ = ["Accepted", "Rejected", "Unreadable", "check", "read_certificate"]


def check(
    certificate: str | Path,
    *,
    model: str | Path,
    data: str | Path | np.ndarray[Any, Any],
    scale: float = 1.0,
    digest: str | None = None,
    progress: Callable[[int], object] | None = None,
) -> Accepted:
    """Check a certificate file against a model file and the data.

    Args:
        certificate: written by ``relaxcert certify --proof`` or ``relaxcert.proofs.write_proof``.
        model: the model file.
        data: a .npz (array x), .npy or .csv file, or the points themselves, (points, ...).
        scale: what the numbers of the data were divided by.
        digest: SHA-256 of the wanted property, if it is not the one that the model carries.
        progress: called with the number of points after each batch.

    Raises:
        Rejected: a claim is not proved; names the first wrong step and the point.
        Unreadable: a file cannot be read, or holds what this checker does not know.
    """
    try:
        from relaxcert.checker.model import first_width, read_model
        from relaxcert.checker.points import read_points, scaled
        from relaxcert.checker.verification import check_certificate
    except ModuleNotFoundError as error:
        raise Unreadable(
            f"the checker needs {error.name}: pip install relaxcert[check]."
        ) from error
    claims = read_certificate(Path(certificate))
    network = read_model(Path(model))
    if isinstance(data, str | Path):
        inputs = read_points(
            Path(data), scale, features=first_width(network.architecture, network.tensors)
        )
    else:
        inputs = scaled(data, scale)
    return check_certificate(claims, network, inputs, digest=digest, progress=progress)
