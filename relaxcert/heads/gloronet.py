"""GloRoNet: a backbone that carries a property."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from relaxcert.errors import InvalidInput, StaleBounds
from relaxcert.heads.arguments import (
    Mode,
    checked_batch_size,
    checked_mode,
    checked_shape,
    count_classes,
    exact_inputs,
    held_exactly,
)
from relaxcert.heads.bottom import with_training_bottom
from relaxcert.heads.certificates import Certificates, concatenate
from relaxcert.heads.certify import certificates_of
from relaxcert.heads.evaluation import proved_output, running_output
from relaxcert.heads.float32_first import decided_in_float32, merged
from relaxcert.heads.head import Head, compile_property
from relaxcert.heads.label import label_margin
from relaxcert.heads.links import EstimatedLinks, Links
from relaxcert.heads.streaming import prefetched
from relaxcert.lipschitz.arithmetic import (
    check_arithmetic,
    check_float32_products,
    without_autocast,
)
from relaxcert.lipschitz.deployed import deployed_format
from relaxcert.lipschitz.directed import unit_of
from relaxcert.lipschitz.network import NetworkLipschitz
from relaxcert.lipschitz.structure import in_eval_mode
from relaxcert.lipschitz.tracing import trace
from relaxcert.lipschitz.verified import VerifiedBounds
from relaxcert.spec.ball import Ball
from relaxcert.spec.canonical import digest
from relaxcert.spec.property import Property


class GloRoNet(nn.Module):
    """A network with an extra logit, bottom, that wins unless its property is certified.

    Args:
        backbone: (batch, ...) -> (batch, classes); nn.Sequential (nested at will) of layers that
            have a Lipschitz rule, or a module whose ``forward`` joins such layers by sums and
            concatenations.
        prop: the property to guarantee.
        num_classes: needed only if the last layer is not nn.Linear.
        input_shape: of one point, without the batch, e.g. (3, 32, 32). Bounds of convolutions
            depend on it. If not given it is that of the first points seen; bounds that depend on
            it are proved anew for points of any other shape.

    Raises:
        UnsupportedLayer: the backbone holds a layer without a rule; names its path.
        InvalidProperty, VacuousProperty: the property does not fit the number of classes.
    """

    def __init__(
        self,
        backbone: nn.Module,
        prop: Property,
        num_classes: int | None = None,
        *,
        input_shape: tuple[int, ...] | None = None,
    ) -> None:
        super().__init__()
        shape = checked_shape(input_shape)
        classes = count_classes(trace(backbone), num_classes)
        prop.check(classes)
        self.backbone = backbone
        self._prop = prop
        self.num_classes = classes
        self.head: Head = compile_property(prop, classes)
        self.lipschitz = NetworkLipschitz(
            backbone, [ball.norm for ball in prop.balls], classes, shape
        )

    @property
    def prop(self) -> Property:
        """The property that the head was compiled from; fixed, as the head would not follow."""
        return self._prop

    def forward(self, inputs: Tensor, *, margin_scale: float = 1.0) -> Tensor:
        """Logits and bottom; (batch, ...) -> (batch, classes + 1).

        In train mode everything is differentiable and the bounds are estimates (two power
        iterations a call). Autocast reaches the backbone only: the logits are converted to the
        dtype of the inputs, in which bounds, margins and bottom are computed. In eval mode the
        bounds are verified, the rounding of this very forward pass is allowed for (autocast has no
        effect), and an argmax other than bottom implies that ``certify`` certifies; bottom itself
        then carries no gradient.

        ``margin_scale`` trains for an eps that is so many times larger; it has no effect in eval
        mode.

        Under torch.compile the bounds must exist beforehand (``verify()``); if weights change
        afterwards, every point is answered by bottom until ``verify()`` is called again.

        Raises:
            InvalidInput: the input's dtype would have to be rounded to that of the weights.
            StaleBounds: compiled in eval mode before ``verify()``.
        """
        self._check_backbone()
        inputs = self._in_weight_dtype(inputs)
        if self.training:
            logits = self.backbone(inputs)
            shape = tuple(inputs.shape[1:])
            with without_autocast(inputs.device):
                logits = logits.to(inputs.dtype)
                outcome = self.head.margin(logits, self._estimated(logits, shape, margin_scale))
                return with_training_bottom(logits, outcome)
        return self._proved_forward(inputs)

    def label_margins(
        self, inputs: Tensor, labels: Tensor, *, margin_scale: float = 1.0
    ) -> tuple[Tensor, Tensor]:
        """Logits, (batch, classes), and M_y, (batch,): what :func:`certified_set` trains on.

        M_y > 0 where the point would count for the VRA: a set that holds the label is certified
        (:mod:`relaxcert.heads.label`). Estimated bounds, differentiable, proves nothing. For
        ``margin_scale`` see ``forward``.

        Raises:
            InvalidInput: the certificates of the property have no set.
        """
        self._check_backbone()
        inputs = self._in_weight_dtype(inputs)
        logits = self.backbone(inputs)
        with without_autocast(inputs.device):
            logits = logits.to(inputs.dtype)
            links_in = self._estimated(logits, tuple(inputs.shape[1:]), margin_scale)
            return logits, label_margin(self.head, logits, links_in, labels)

    def certify(
        self,
        inputs: Tensor,
        *,
        batch_size: int | None = None,
        mode: Mode = "float64",
        deployed: str | None = None,
        escalate: str | None = None,
        budget: float | str = 10.0,
    ) -> Certificates:
        """Certify points rigorously (level R or D; never differentiable).

        The centre is computed in float64 with its rounding bounded, the Lipschitz bounds are
        verified and recomputed if any weight changed, and everything is rounded down. Dropout is
        off, whatever the mode of the network.

        Args:
            inputs: (batch, ...), any floating dtype or integers of at most 32 bits: each number
                is taken exactly. Points with NaN or infinity are never certified.
            batch_size: process so many points at a time, to bound memory.
            mode: ``"float64"``, or ``"float32-first"``: the float32 network runs first, and only
                points on which its rounding could matter (or that float32 does not hold) are
                taken in float64. Verdicts, k and sets are those of float64; margins and radii are
                proved too, but lower by what float32 rounds. Level D is always taken in float64.
            deployed: None for level R: the property holds for all real x' and the real-arithmetic
                function of the weights. ``"float32"`` or ``"float64"`` for level D as well: for
                every x' of the ball that is representable in that format, the logits *computed* in
                it have the stated order. Assumed of the deployment: IEEE-754 with round to nearest
                and gradual underflow; products and convolutions by plain sums of products in any
                order, with or without fused multiply-add (no TF32, Winograd, Fourier transforms,
                autocast); the numbers of ``relaxcert.lipschitz.materialised(net.backbone)``. Radii
                do not exceed eps then. If a real x' is first rounded to the format, certify
                eps + u (||x|| + eps).
            escalate: a solver's name, such as ``"z3"``: rejected points are tried by exact
                reasoning (small networks, level R only; see :mod:`relaxcert.smt.escalate`), and
                what it proves is marked in ``Certificates.engine``.
            budget: wall time of the solver for all points together, in seconds or as ``"10s"``.

        Raises:
            InvalidInput: inputs that do not fit the backbone or cannot be taken exactly; an
                unknown mode or solver, a budget of 0, ``escalate`` at level D.
            UnsupportedPrecision: half-precision weights, arithmetic that is not IEEE-754, or a
                deployment without a guarantee (bfloat16, TF32).
            InvalidWeights: NaN, infinite or empty weights.
        """
        dtype = None if deployed is None else deployed_format(deployed, self.backbone)
        if dtype is not None and escalate is not None:
            raise InvalidInput(
                f"escalate={escalate!r} reasons about real numbers (level R), so it says nothing "
                f"about computed logits: leave out deployed={deployed!r}."
            )
        if dtype == torch.float32:
            check_float32_products(inputs.device)
        exact = exact_inputs(inputs)
        # A copy, since an in-place activation may overwrite the points.
        kept = exact if escalate is None else exact.clone()
        check_arithmetic(exact.device)
        bounds = self.verify(tuple(exact.shape[1:]))
        size = max(1, len(exact)) if batch_size is None else checked_batch_size(batch_size)
        starts = range(0, max(1, len(exact)), size)
        way = self._way_of(checked_mode(mode), dtype)
        with torch.no_grad(), without_autocast(exact.device):
            batches = [way(exact[start : start + size], bounds) for start in starts]
        certificates = batches[0] if len(batches) == 1 else concatenate(batches)
        if escalate is None:
            return certificates
        return escalated(self.backbone, kept, certificates, escalate, budget)

    def certify_stream(
        self, batches: Iterable[Tensor], *, mode: Mode = "float64", prefetch: int = 1
    ) -> Iterator[Certificates]:
        """Certify any iterable of batches, one at a time: memory does not grow with their number.

        A thread fetches the next ``prefetch`` batches while one is certified (0: none). Weights
        are compared with those of the proof for each batch. Arguments and errors as
        :meth:`certify`; join what is needed with ``relaxcert.heads.concatenate``.
        """
        for inputs in prefetched(batches, prefetch):
            yield self.certify(inputs, mode=mode)

    def _way_of(
        self, mode: Mode, deployed: torch.dtype | None
    ) -> Callable[[Tensor, VerifiedBounds], Certificates]:
        weights = next(self.backbone.parameters(), None)
        first = mode == "float32-first" and deployed is None
        if first and weights is not None and weights.dtype == torch.float32:
            check_float32_products(weights.device)
            return self._float32_first
        return lambda inputs, bounds: certificates_of(
            inputs, bounds, self.head, self.prop, deployed
        )

    def _float32_first(self, inputs: Tensor, bounds: VerifiedBounds) -> Certificates:
        graph = bounds.frozen or self.lipschitz.current_graph(tuple(inputs.shape[1:]))
        with in_eval_mode(self.backbone):
            try:
                found, decided = decided_in_float32(inputs, graph, bounds, self.head, self.prop)
            except (RuntimeError, IndexError):
                # float64 says what is wrong with the points.
                return certificates_of(inputs, bounds, self.head, self.prop)
        rows = torch.nonzero(~decided).flatten()
        if len(rows) == 0 and len(inputs) > 0:
            return found
        again = certificates_of(inputs[rows], bounds, self.head, self.prop)
        return merged(found, again, rows)

    def verify(
        self,
        input_shape: tuple[int, ...] | None = None,
        *,
        tight: bool | None = None,
        on_layer: Callable[[str, int], object] | None = None,
    ) -> VerifiedBounds:
        """Return verified bounds of the present weights, computing them if needed.

        Args:
            input_shape: of the points to certify (without the batch); default: the last one.
            tight: take seconds a layer for smaller bounds of small convolutions (up to about
                16 x 16 pixels of 64 channels); stays on until it is given as False.
            on_layer: called when a layer is proved: with its name, and how many there are in all.

        Raises:
            InvalidInput: the shape is needed and not known, or does not fit the backbone.
        """
        self._check_backbone()
        shape = checked_shape(input_shape)
        return self.lipschitz.verified(shape, tight=tight, on_layer=on_layer)

    def export(
        self,
        path: str | Path,
        *,
        input_shape: Sequence[int] | None = None,
        class_names: Sequence[str] | None = None,
    ) -> Path:
        """Write backbone and head to an ONNX file that certifies by itself.

        The writer, which says more, is :func:`relaxcert.interop.export_onnx`. It stands two floors
        above this one and is looked up by name when it is called: no import points upwards, and
        whoever does not export never loads onnx.

        Args:
            path: where to write; written atomically.
            input_shape: of one point, without the batch; needed if the network does not tell.
            class_names: kept in the metadata.

        Raises:
            UnsupportedLayer, InvalidInput: the network cannot be exported with a known rounding.
            RelaxcertError: those of :meth:`verify`.
        """
        writer = import_module("relaxcert.interop.onnx_export").export_onnx
        return writer(self, path, input_shape=input_shape, class_names=class_names)

    @property
    def digest(self) -> str:
        """SHA-256 of the property's canonical JSON."""
        return digest(self.prop)

    def extra_repr(self) -> str:
        """The property."""
        return f"prop={self.prop!r}"

    def _estimated(
        self, logits: Tensor, shape: tuple[int, ...], margin_scale: float
    ) -> Callable[[Ball], Links]:
        estimates = self.lipschitz.estimated(shape)

        def links_in(ball: Ball) -> Links:
            product, pairs = estimates[ball.norm]
            return EstimatedLinks(logits, pairs, product * (float(ball.eps) * margin_scale))

        return links_in

    def _check_backbone(self) -> None:
        if not self.lipschitz.belongs_to(self.backbone):
            raise InvalidInput(
                "net.backbone was replaced, but the bounds are those of the former one: build a "
                "new network, GloRoNet(backbone, prop)."
            )

    def _proved_forward(self, inputs: Tensor) -> Tensor:
        if any(module.training for module in self.backbone.modules()):
            raise InvalidInput(
                "the network is in eval mode but a layer of its backbone in train mode, where "
                "dropout is not 1-Lipschitz: call net.eval()."
            )
        compiling = torch.compiler.is_compiling()
        shape = tuple(inputs.shape[1:])
        if compiling:
            bounds = self.lipschitz.present
            if bounds is None or not bounds.covers(shape):
                raise StaleBounds(
                    "call net.verify() before compiling the network in eval mode, and again for "
                    f"inputs of another shape (now {shape})."
                )
            self.lipschitz.refuse_other_convolutions()
        else:
            check_arithmetic(inputs.device)
            check_float32_products(inputs.device)
            bounds = self.verify(shape)
        graph = self.lipschitz.current_graph(shape) if bounds.frozen is None else bounds.frozen
        with without_autocast(inputs.device):
            if compiling:
                return running_output(inputs, graph, bounds, self.head, self.lipschitz.unchanged())
            balls = tuple(dict.fromkeys(self.prop.balls))
            return proved_output(inputs, graph, bounds, self.head, balls)

    def _in_weight_dtype(self, inputs: Tensor) -> Tensor:
        weights = next(self.backbone.parameters(), None)
        unit_of(inputs.dtype if weights is None else weights.dtype)
        if weights is None or inputs.dtype == weights.dtype:
            return inputs
        if not held_exactly(inputs.dtype, weights.dtype):
            raise InvalidInput(
                f"inputs has dtype {inputs.dtype}, the weights {weights.dtype}: rounding "
                f"would certify other points than were given. Convert them yourself with "
                f"inputs.to({weights.dtype}), or use certify(), which takes them exactly."
            )
        return inputs.to(weights.dtype)


def escalated(
    backbone: nn.Module, inputs: Tensor, certificates: Certificates, solver: str, budget: Any
) -> Certificates:
    """:func:`relaxcert.smt.escalate.escalated`, looked up by name: no import points upwards."""
    solvers: Any = import_module("relaxcert.smt.escalate")
    return solvers.escalated(backbone, inputs, certificates, solver, budget)
