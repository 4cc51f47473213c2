"""The Lipschitz side of a network: estimates for training, verified bounds for certifying."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor, nn

from relaxcert.errors import InvalidInput, UnsupportedPrecision
from relaxcert.lipschitz.arithmetic import convolutions_are_conventional
from relaxcert.lipschitz.estimate import estimated_totals
from relaxcert.lipschitz.folding import is_foldable
from relaxcert.lipschitz.graph import Graph
from relaxcert.lipschitz.live_folding import Segment, initial_iterate, segments_of
from relaxcert.lipschitz.memory import Memory
from relaxcert.lipschitz.pairs import EstimatedPairs, Pairs, TablePairs
from relaxcert.lipschitz.rules import pairs_of_any_map
from relaxcert.lipschitz.rules_convolution import ConvolutionRule
from relaxcert.lipschitz.snapshot import tensors_of
from relaxcert.lipschitz.structure import (
    Structure,
    Watch,
    has_own_forward,
    in_eval_mode,
    structure_of,
)
from relaxcert.lipschitz.tracing import trace
from relaxcert.lipschitz.verified import (
    LayerBound,
    VerifiedBounds,
    refuse_train_mode,
    verify,
)
from relaxcert.spec.ball import Norm

Shape = tuple[int, ...]


class NetworkLipschitz(nn.Module):
    """How far the logits of a backbone can move; ``net.lipschitz``.

    The power iterates are buffers (``iterate_0``, ... in the order of the layers), made as soon as
    the shape of the input is known to those layers that need it. The backbone itself belongs to
    the network and is only referred to.

    Args:
        backbone: the network whose logits are bounded.
        norms: of the balls, without repetition.
        num_classes: number of logits.
        input_shape: of one point, without the batch; found from the first points if not given.
    """

    def __init__(
        self,
        backbone: nn.Module,
        norms: Iterable[Norm],
        num_classes: int,
        input_shape: Shape | None = None,
    ) -> None:
        super().__init__()
        # In a list, so that torch does not register the backbone a second time.
        self._backbone = [backbone]
        self.norms: tuple[Norm, ...] = tuple(dict.fromkeys(norms))
        self.num_classes = num_classes
        self.input_shape = input_shape
        self.tight = False
        self.present: VerifiedBounds | None = None
        self._is_doubtful = False  # whether to prove anew, whatever the signature says
        self._structure: Structure | None = None
        self._watch: Watch | None = None
        self.memory = Memory()
        self._own_forward = False
        self._graph: Graph | None = None
        self._graph_of_proof: Graph | None = None
        self._shape_of_graph: Shape | None = None
        self._segments: dict[int, Segment] = {}
        self.register_load_state_dict_pre_hook(self._accept_iterates)
        self._refresh(input_shape)

    def belongs_to(self, backbone: nn.Module) -> bool:
        """Whether these bounds speak of this very module."""
        return self._backbone[0] is backbone

    def live_graph(self, input_shape: Shape | None = None) -> Graph:
        """The layers as they are now, with shapes if some rule needs them and they are known."""
        self._refresh(input_shape)
        return self._known_graph()

    def verified(
        self,
        input_shape: Shape | None = None,
        *,
        tight: bool | None = None,
        on_layer: Callable[[str, int], object] | None = None,
    ) -> VerifiedBounds:
        """Verified bounds of the present weights; recomputed whenever any number changed.

        The weights are compared value by value with those of the proof, so changes through
        ``p.data``, ``load_state_dict`` or ``.to()`` are all seen. Bounds that depend on the shape
        of the input are proved anew for another ``input_shape`` (default: the last one).
        ``tight`` takes seconds a layer for smaller bounds of small convolutions, and stays on until
        it is given as False. ``on_layer`` is called when a layer is proved: with its name, and how
        many there are in all.

        Raises:
            InvalidWeights, UnsupportedLayer, UnsupportedPrecision: no proof is possible.
            InvalidInput: the shape is needed and was never given, or does not fit.
        """
        backbone = self._backbone[0]
        shape = self.input_shape if input_shape is None else input_shape
        # A forward method may depend on anything, so it is traced anew; Sequential may not.
        self._refresh(None)
        graph = trace(backbone) if self._own_forward else self._known_graph()
        refuse_train_mode(graph)
        known = self.present
        self.tight = self.tight if tight is None else tight
        fits = known is not None and (shape is None or known.covers(shape))
        fits = fits and known is not None and known.tight == self.tight and not self._is_doubtful
        # Bounds for any shape were proved without folding, for which shapes must be known.
        if fits and known is not None and known.input_shape is None and shape is not None:
            fits = not is_foldable(graph)
        unchanged_graph = graph is self._graph_of_proof
        if known is None or not fits or not known.still_hold(backbone, graph, unchanged_graph):
            self.present = None
            self.present = known = verify(
                backbone,
                self.norms,
                self.num_classes,
                shape,
                tight=self.tight,
                on_layer=on_layer,
                memory=self.memory,
            )
            self._is_doubtful = False
        self._graph_of_proof = graph
        self.input_shape = shape
        return known

    def current_graph(self, input_shape: Shape) -> Graph:
        """The graph as ``verified`` has just seen it; compiled code asks for it anew."""
        # Not self._graph, which does not see what a forward method reads from elsewhere.
        if torch.compiler.is_compiling() or self._graph_of_proof is None:
            return self.live_graph(input_shape)
        return self._graph_of_proof

    @torch.compiler.assume_constant_result
    def same_structure(self) -> bool:
        """Whether layers and their settings are those of the proof.

        In compiled code this is asked once a compilation: a changed setting compiles anew.
        """
        return (
            self.present is not None
            and not self._is_doubtful
            and trace(self._backbone[0]).signature == self.present.signature
        )

    # In compiled code the settings cannot be switched for the pass, so they are asked for.
    @torch.compiler.assume_constant_result
    def refuse_other_convolutions(self) -> bool:
        """Raise UnsupportedPrecision if compiled convolutions might be no plain sums; else True."""
        numbers = next(self._backbone[0].parameters(), None)
        convolves = any(isinstance(node.rule, ConvolutionRule) for node in self.live_graph().layers)
        if numbers is None or not convolves:
            return True
        if not convolutions_are_conventional(numbers.device, numbers.dtype):
            raise UnsupportedPrecision(
                "compiled convolutions may use Winograd transforms with the present settings: "
                "compile and run inside relaxcert.lipschitz.conventional_products(device), or do "
                "not compile in eval mode."
            )
        return True

    def unchanged(self) -> Tensor:
        """Whether the weights are still those of the proof, as a tensor: no host sync; () bool."""
        if self.present is None or not self.same_structure():
            return torch.tensor(False)
        same = [
            (live == kept).all()
            for live, kept in zip(tensors_of(self._backbone[0]), self.present.snapshot, strict=True)
        ]
        return torch.stack(same).all() if same else torch.tensor(True)

    def estimated(self, input_shape: Shape | None = None) -> dict[Norm, tuple[Tensor, Pairs]]:
        """Differentiable estimates per norm: the product P, scalar, and pairs D.

        Two power iterations are made and the iterates kept, in train mode.
        """
        self._refresh(input_shape)
        graph = self._known_graph()
        return {norm: self._estimate(graph, norm) for norm in self.norms}

    def _estimate(self, graph: Graph, norm: Norm) -> tuple[Tensor, Pairs]:
        iterates: list[Tensor | None] = [
            getattr(self, f"iterate_{index}", None) for index in range(len(graph.nodes) - 1)
        ]
        totals, following = estimated_totals(graph, norm, iterates, self._segments)
        if self.training:
            for iterate, new in zip(iterates, following, strict=False):
                if iterate is not None and new is not None:
                    with torch.no_grad():
                        iterate.copy_(new)
        product = totals[graph.features]
        if graph.last is None:
            pairs = pairs_of_any_map(self.num_classes, norm)
            reference = next(self._backbone[0].parameters(), pairs)
            return torch.as_tensor(product).to(reference), TablePairs(pairs.to(reference))
        weight = graph.last_weight
        return torch.as_tensor(product).to(weight), EstimatedPairs(weight, norm)

    def table(self) -> tuple[LayerBound, ...]:
        """One row a layer and norm: verified bounds of the present weights, and the method."""
        bounds = self.verified()
        return tuple(row for proved in bounds.norms.values() for row in proved.rows)

    def _known_graph(self) -> Graph:
        if self._graph is None:
            raise InvalidInput("the backbone was not traced yet: call live_graph() first.")
        return self._graph

    # Not traced by torch.compile: it runs once a compilation and leaves a graph behind.
    @torch.compiler.assume_constant_result
    def _refresh(self, input_shape: Shape | None) -> bool:
        """Trace again if a module was replaced or reconfigured; make the iterates that are missing.

        Returns whether anything changed.
        """
        backbone = self._backbone[0]
        shape = self.input_shape if input_shape is None else input_shape
        same_shape = shape is None or shape == self._shape_of_graph
        known = self._structure is not None and same_shape and self._graph is not None
        if known and self._watch is not None and self._watch.is_same():
            return False
        structure = structure_of(backbone)
        self._watch, self._own_forward = Watch(backbone), has_own_forward(backbone)
        if known and structure == self._structure:
            return False
        if self._structure is not None and structure != self._structure:
            # Proofs may rest on what signatures do not tell, such as the rules.
            self._is_doubtful = True
        graph = trace(backbone)
        if shape is not None and (graph.needs_shape or is_foldable(graph)):
            with in_eval_mode(backbone):
                graph = graph.with_shapes(shape)
        self._graph, self._structure, self._shape_of_graph = graph, structure, shape
        self._segments = segments_of(graph)
        for index, node in enumerate(graph.nodes[1:]):
            if index + 1 in self._segments:
                fresh = initial_iterate(graph, self._segments[index + 1])
                self._make_iterate(index, fresh, backbone)
            elif node.rule is not None:
                self._make_iterate(index, node.rule.initial_iterate(node.layer), node.layer)
        return True

    def _make_iterate(self, index: int, fresh: Tensor | None, layer: nn.Module | None) -> None:
        present: Tensor | None = getattr(self, f"iterate_{index}", None)
        if fresh is None or (present is not None and present.shape == fresh.shape):
            return
        parameter = None if layer is None else next(layer.parameters(), None)
        self.register_buffer(
            f"iterate_{index}", fresh if parameter is None else fresh.to(parameter)
        )

    def _accept_iterates(
        self, module: nn.Module, state_dict: dict[str, Any], prefix: str, *rest: object
    ) -> None:
        """Before a state dict is loaded: make the iterates whose shape was not known here yet."""
        self._structure = None  # those that do not fit the present shape are made anew
        for name, value in list(state_dict.items()):
            key = name.removeprefix(prefix)
            if not name.startswith(prefix + "iterate_") or not isinstance(value, Tensor):
                continue
            known: Tensor | None = getattr(self, key, None)
            if known is None or known.shape != value.shape:
                self.register_buffer(key, torch.zeros_like(value))
