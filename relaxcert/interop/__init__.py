"""Floor 5: networks and properties of other tools' formats, in and out."""

from __future__ import annotations

from relaxcert.interop.nnet import NNet, read_nnet

__all__ = ["NNet", "read_nnet"]
