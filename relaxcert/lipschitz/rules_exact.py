"""Rules of layers that round nothing: comparisons, copies and moves; all 1-Lipschitz."""

from __future__ import annotations

from torch import Tensor, nn

from relaxcert.errors import UnsupportedLayer
from relaxcert.lipschitz.registry import Bound, Rounding, Rule, rule
from relaxcert.nn.layers import MinMax
from relaxcert.nn.shapes import GroupSort, InvertibleDownsampling, Part, Permute, Reshape
from relaxcert.spec.ball import Norm


@rule(nn.ReLU, MinMax, GroupSort, nn.Identity, nn.Dropout, nn.Dropout1d, nn.Dropout2d, nn.Dropout3d)
@rule(InvertibleDownsampling, nn.PixelUnshuffle, nn.PixelShuffle, Permute, Reshape, Part)
@rule(nn.ChannelShuffle, nn.ReLU6, nn.ZeroPad1d, nn.ZeroPad2d, nn.ZeroPad3d)
class NonExpansive(Rule[nn.Module]):
    """Layers that are 1-Lipschitz in every norm and round nothing (dropout: in eval mode).

    Sorting does not increase any norm that treats all coordinates alike: of all orders of two
    vectors, the sorted ones are nearest.
    """

    def verified(self, layer: nn.Module, norm: Norm) -> Bound:
        """Exactly 1."""
        return Bound(1.0, "1-Lipschitz by definition")

    def estimate(self, layer: nn.Module, norm: Norm, iterate: Tensor | None) -> tuple[float, None]:
        """Exactly 1."""
        return 1.0, None

    def rounding(self, layer: nn.Module, norm: Norm) -> Rounding:
        """None: comparisons and copies are exact."""
        return Rounding()


@rule(nn.Flatten, nn.Unflatten)
class FlattenRule(NonExpansive):
    """Moves numbers, as long as it leaves the batch alone."""

    def verified(self, layer: nn.Module, norm: Norm) -> Bound:
        """Exactly 1; refused where points would be mixed."""
        first = layer.start_dim if isinstance(layer, nn.Flatten) else getattr(layer, "dim", 0)
        if first == 0:
            raise UnsupportedLayer(
                f"{layer!r} begins at dimension 0, the batch, and so mixes points: begin at 1."
            )
        return super().verified(layer, norm)
