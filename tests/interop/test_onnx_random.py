"""Random graphs: read, compared with onnxruntime, and traced as Lipschitz bounds need."""

from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np
import onnx
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import helper

from relaxcert.interop import load_onnx
from relaxcert.lipschitz.registry import has_rule
from relaxcert.lipschitz.tracing import trace
from tests.interop.onnx_files import assert_same, model_of, points, write


class Graph:
    """A graph under construction: every value has a name and, for a batch of one, a shape."""

    def __init__(self, draw, shape: tuple[int, ...]) -> None:
        self.draw = draw
        self.input = shape
        self.nodes: list[onnx.NodeProto] = []
        self.constants: dict[str, np.ndarray] = {}
        self.values: list[tuple[str, tuple[int, ...]]] = [("x", shape)]
        self.random = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))

    def pick(self, rank: int | None = None):
        chosen = [v for v in self.values if rank is None or len(v[1]) == rank]
        return self.draw(st.sampled_from(chosen)) if chosen else None

    def constant(self, *shape: int) -> str:
        return self.given(self.random.normal(size=shape).astype(np.float32) / 2)

    def given(self, array: np.ndarray) -> str:
        name = f"c{len(self.constants)}"
        self.constants[name] = array
        return name

    def add(self, op: str, inputs: list[str], *shapes: tuple[int, ...], **attributes) -> None:
        outputs = [f"v{len(self.values) + i}" for i in range(len(shapes))]
        self.nodes.append(helper.make_node(op, inputs, outputs, **attributes))
        self.values += list(zip(outputs, shapes, strict=True))


def dense(graph: Graph) -> None:
    name, shape = graph.pick(2)
    width = graph.draw(st.integers(1, 6))
    graph.add("MatMul", [name, graph.constant(shape[1], width)], (1, width))
    graph.add("Add", [graph.values[-1][0], graph.constant(width)], (1, width))


def gemm(graph: Graph) -> None:
    name, shape = graph.pick(2)
    width = graph.draw(st.integers(1, 6))
    weight = graph.constant(width, shape[1])
    graph.add("Gemm", [name, weight, graph.constant(width)], (1, width), transB=1)


def activation(graph: Graph) -> None:
    name, shape = graph.pick()
    graph.add(graph.draw(st.sampled_from(["Relu", "LeakyRelu", "Abs", "Neg"])), [name], shape)


def with_constant(graph: Graph) -> None:
    name, shape = graph.pick()
    op = graph.draw(st.sampled_from(["Add", "Sub", "Mul", "Div"]))
    constant = graph.constant(*graph.draw(st.sampled_from([shape[1:], shape, ()])))
    if op == "Div":
        graph.constants[constant] = np.abs(graph.constants[constant]) + np.float32(0.5)
    inputs = [name, constant]
    graph.add(op, inputs[:: graph.draw(st.sampled_from([1, -1]))] if op != "Div" else inputs, shape)


def with_another(graph: Graph) -> None:
    name, shape = graph.pick()
    other = graph.draw(st.sampled_from([v for v, s in graph.values if s == shape]))
    op = graph.draw(st.sampled_from(["Add", "Sub", "Min", "Max"]))
    graph.add(op, [name, other], shape)


def split(graph: Graph) -> None:
    name, shape = graph.pick(2)
    if shape[1] > 1:
        cut = graph.draw(st.integers(1, shape[1] - 1))
        sizes = graph.given(np.array([cut, shape[1] - cut]))
        graph.add("Split", [name, sizes], (1, cut), (1, shape[1] - cut), axis=1)


def sliced(graph: Graph) -> None:
    name, shape = graph.pick()
    axis = graph.draw(st.integers(1, len(shape) - 1))
    step = graph.draw(st.sampled_from([1, 2, -1]))
    start, end = (0, 2**40) if step > 0 else (-1, -(2**40))
    inputs = [graph.given(np.array([number])) for number in (start, end, axis, step)]
    size = len(range(shape[axis])[::step])
    graph.add("Slice", [name, *inputs], (*shape[:axis], size, *shape[axis + 1 :]))


def joined(graph: Graph) -> None:
    name, shape = graph.pick()
    axis = graph.draw(st.integers(1, len(shape) - 1))
    rest = shape[:axis] + shape[axis + 1 :]
    fitting = [
        (v, s)
        for v, s in graph.values
        if len(s) == len(shape) and s[:axis] + s[axis + 1 :] == rest and s[axis] < 12
    ]
    chosen = graph.draw(
        st.lists(st.sampled_from(fitting or [(name, shape)]), min_size=1, max_size=3)
    )
    total = sum(s[axis] for _, s in chosen)
    names = [v for v, _ in chosen]
    graph.add("Concat", names, (*shape[:axis], total, *shape[axis + 1 :]), axis=axis)


def moved(graph: Graph) -> None:
    name, shape = graph.pick()
    if len(shape) == 2:
        sizes = (1, 1, shape[1], 1)
        graph.add("Reshape", [name, graph.given(np.array([0, 1, -1, 1]))], sizes)
        return
    order = graph.draw(st.permutations(range(1, len(shape))))
    after = (1, *(shape[place] for place in order))
    graph.add("Transpose", [name], after, perm=[0, *order])


def flatten(graph: Graph) -> None:
    name, shape = graph.pick()
    graph.add("Flatten", [name], (1, int(np.prod(shape))))


def convolution(graph: Graph) -> None:
    found = graph.pick(4)
    if found is not None:
        name, shape = found
        weight = graph.constant(2, shape[1], 1, 1)
        graph.add("Conv", [name, weight], (1, 2, *shape[2:]))


STEPS = (
    dense, gemm, activation, activation, with_constant, with_another, with_another, split, sliced,
    joined, moved, flatten, convolution,
)  # fmt: skip


@st.composite
def graphs(draw) -> tuple[onnx.ModelProto, tuple[int, ...]]:
    shape = draw(st.sampled_from([(1, 4), (1, 6), (1, 2, 2, 3), (1, 1, 1, 5)]))
    graph = Graph(draw, shape)
    flatten(graph)
    for step in draw(st.lists(st.sampled_from(STEPS), min_size=1, max_size=8)):
        step(graph)
    flatten(graph)
    name, before = graph.values[-1]
    weight = graph.constant(before[1], 3)
    graph.nodes.append(helper.make_node("Gemm", [name, weight], ["y"]))
    model = model_of(graph.nodes, ["B", *shape[1:]], graph.constants, opset=17)
    return model, shape[1:]


@settings(max_examples=60)
@given(graphs())
def test_random_graphs(made):
    model, shape = made
    with tempfile.TemporaryDirectory() as folder:
        path = write(model, Path(folder))
        network = load_onnx(path)
        inputs = points(5, 4, *shape)
        assert_same(network, path, inputs)
    if all(has_rule(layer) for layer in network.modules() if not list(layer.children())):
        on_the_inputs = torch.from_numpy(inputs)
        assert torch.equal(trace(network).run(on_the_inputs), network(on_the_inputs))
