"""The Lipschitz side of a network: estimates for training, verified bounds for certifying."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor, nn

from relaxcert.lipschitz.chain import Chain, chain_of
from relaxcert.lipschitz.matrix import DUAL_ORDER
from relaxcert.lipschitz.rules import pairs_of_any_map
from relaxcert.lipschitz.verified import LayerBound, VerifiedBounds, tensors_of, verify
from relaxcert.spec.ball import Norm


class NetworkLipschitz(nn.Module):
    """How far the logits of a backbone can move; ``net.lipschitz``.

    The power iterates are buffers (``iterate_0``, ...). The backbone itself belongs to the
    network and is only referred to.
    """

    def __init__(self, backbone: nn.Module, norms: Iterable[Norm], num_classes: int) -> None:
        super().__init__()
        # In a list, so that torch does not register the backbone a second time.
        self._backbone = [backbone]
        self.norms: tuple[Norm, ...] = tuple(dict.fromkeys(norms))
        self.num_classes = num_classes
        self.present: VerifiedBounds | None = None
        for index, link in enumerate(chain_of(backbone).links):
            iterate = link.rule.initial_iterate(link.layer)
            parameter = next(link.layer.parameters(), None)
            if iterate is not None and parameter is not None:
                iterate = iterate.to(parameter)
            self.register_buffer(f"iterate_{index}", iterate)

    def belongs_to(self, backbone: nn.Module) -> bool:
        """Whether these bounds speak of this very module."""
        return self._backbone[0] is backbone

    def live_chain(self) -> Chain:
        """The layers as they are now."""
        return chain_of(self._backbone[0])

    def verified(self) -> VerifiedBounds:
        """Verified bounds of the present weights; recomputed whenever any number changed.

        The weights are compared value by value with those of the proof, so changes through
        ``p.data``, ``load_state_dict`` or ``.to()`` are all seen.

        Raises:
            InvalidWeights, UnsupportedLayer, UnsupportedPrecision: no proof is possible.
        """
        backbone = self._backbone[0]
        if self.present is None or not self.present.still_hold(backbone):
            self.present = None
            self.present = verify(backbone, self.norms, self.num_classes)
        return self.present

    @torch.compiler.assume_constant_result
    def same_structure(self) -> bool:
        """Whether layers and their settings are those of the proof.

        In compiled code this is asked once a compilation: a changed setting compiles anew.
        """
        return self.present is not None and self.live_chain().signature == self.present.signature

    def unchanged(self) -> Tensor:
        """Whether the weights are still those of the proof, as a tensor: no host sync; () bool."""
        if self.present is None or not self.same_structure():
            return torch.tensor(False)
        same = [
            (live == kept).all()
            for live, kept in zip(tensors_of(self._backbone[0]), self.present.snapshot, strict=True)
        ]
        return torch.stack(same).all() if same else torch.tensor(True)

    def estimated(self) -> dict[Norm, tuple[Tensor, Tensor]]:
        """Differentiable estimates per norm: the product P, scalar, and pairs D, (C, C).

        Two power iterations are made and the iterates kept, in train mode.
        """
        chain = self.live_chain()
        return {norm: self._estimate(chain, norm) for norm in self.norms}

    def _estimate(self, chain: Chain, norm: Norm) -> tuple[Tensor, Tensor]:
        product: Tensor | float = 1.0
        for index, link in enumerate(chain.body):
            iterate: Tensor | None = getattr(self, f"iterate_{index}")
            factor, following = link.rule.estimate(link.layer, norm, iterate)
            if self.training and iterate is not None and following is not None:
                with torch.no_grad():
                    iterate.copy_(following)
            product = product * factor
        if chain.last is None:
            pairs = pairs_of_any_map(self.num_classes, norm)
            reference = next(self._backbone[0].parameters(), pairs)
            return torch.as_tensor(product).to(reference), pairs.to(reference)
        weight = chain.last_weight
        return torch.as_tensor(product).to(weight), row_distances(weight, norm)

    def table(self) -> tuple[LayerBound, ...]:
        """One row a layer and norm: verified bounds of the present weights, and the method."""
        bounds = self.verified()
        return tuple(row for proved in bounds.norms.values() for row in proved.rows)


def row_distances(weight: Tensor, norm: Norm) -> Tensor:
    """Differentiable D[j, i] = dual norm of w_j - w_i; gradient 0 where rows are equal."""
    return torch.cdist(
        weight, weight, p=DUAL_ORDER[norm], compute_mode="donot_use_mm_for_euclid_dist"
    )
