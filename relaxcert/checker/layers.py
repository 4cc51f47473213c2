"""Layers for inputs of one shape: affine maps, or functions with a known constant.

A value of shape (channels, ...) is a vector in row order. A convolution is its unrolled matrix,
whose entries are copies of the kernel's, so nothing is rounded here.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import reduce
from itertools import pairwise
from typing import Any

import numpy as np
from flint import arb

from relaxcert.checker.model import Array
from relaxcert.checker.outcome import Unreadable

MOST_ENTRIES = 2**22  # of one matrix
Shape = tuple[int, ...]
Vector = list[arb]


@dataclass(frozen=True, slots=True)
class Affine:
    """scale * (matrix @ x) + shift; what is None is left out."""

    matrix: Array | None = None
    scale: Vector | None = None
    shift: Vector | None = None


@dataclass(frozen=True, slots=True)
class Bent:
    """Any other function, with its Lipschitz constant in l2, linf and l1."""

    run: Callable[[Vector], Vector]
    l2: arb
    linf: arb
    l1: arb


Action = Affine | Bent | None  # None: nothing changes but the shape


@dataclass(frozen=True, slots=True)
class Layer:
    """A layer as described, its tensors (each is taken out once), the shape of what it gets."""

    path: str
    fields: dict[str, Any]
    tensors: dict[str, Array]
    shape: Shape

    def require(self, fits: object, what: str) -> None:
        """Raise Unreadable unless ``fits``."""
        if not fits:
            raise Unreadable(f"layer {self.path} for points of shape {self.shape}: {what}")

    def numbers(self, name: str) -> Array:
        """A stored tensor in float64, exactly."""
        tensor = self.tensors.pop(f"{self.path}.{name}" if self.path else name, np.empty(0))
        self.require(tensor.size and tensor.dtype.str in ("<f4", "<f8"),
                     f"its {name} is missing, empty, or not float32 or float64.")  # fmt: skip
        self.require(np.isfinite(tensor).all(), f"its {name} holds numbers that are not finite.")
        return tensor.astype(np.float64)

    def bias(self, outputs: int) -> Array:
        """The bias, or zeros."""
        found = self.numbers("bias") if self.fields.get("bias") is True else np.zeros(outputs)
        self.require(found.shape == (outputs,), f"its bias has shape {found.shape}.")
        return found

    def sizes(self, name: str, least: int) -> Shape:
        """A setting of one whole number a dimension of the points; one stands for all."""
        dims = len(self.shape) - 1
        value: Any = self.fields.get(name)
        value = [value] * dims if type(value) is int else value
        self.require(isinstance(value, list) and len(value) == dims,
                     f"{name}={value!r:.40} is not {dims} numbers.")  # fmt: skip
        self.require(all(type(size) is int and least <= size <= MOST_ENTRIES for size in value),
                     f"{name}={value!r:.40} is out of range.")  # fmt: skip
        return tuple(value)

    def windows(
        self, kernel: Shape, pads: list[tuple[int, int]], dilation: Shape, circular: bool = False
    ) -> tuple[Array, Shape]:
        """The places that each window meets, (windows, taps), -1 for padding; their shape."""
        stride, size = self.sizes("stride", 1), self.shape[1:]
        out = tuple(
            (n + low + high - d * (k - 1) - 1) // s + 1
            for n, (low, high), d, k, s in zip(size, pads, dilation, kernel, stride, strict=True)
        )
        entries = math.prod(out) * math.prod(kernel)
        self.require(min(out) >= 1 and entries <= MOST_ENTRIES, "empty, or too many entries.")
        met, inside = np.zeros((1, 1), np.int64), np.ones((1, 1), np.bool_)
        for axis, n in enumerate(size):
            steps = stride[axis] * np.arange(out[axis])[:, None] - pads[axis][0]
            at = steps + dilation[axis] * np.arange(kernel[axis])
            within = (at >= 0) & (at < n) | circular
            taps = met.shape[1] * kernel[axis]
            met = (met[:, None, :, None] * n + (at % n)[:, None]).reshape(-1, taps)
            inside = (inside[:, None, :, None] & within[:, None]).reshape(-1, taps)
        return np.where(inside, met, -1), out

    def matrix(self, windows: Array, blocks: Array, groups: int = 1) -> Array:
        """Rows (output, window), columns (input, place); ``blocks`` (output, input, tap)."""
        outputs, inputs, taps = blocks.shape
        places = math.prod(self.shape[1:])
        entries = outputs * len(windows) * inputs * groups * places
        self.require(entries <= MOST_ENTRIES, f"more than {MOST_ENTRIES} entries when unrolled.")
        found = np.zeros((groups, outputs // groups, len(windows), groups, inputs, places))
        kernels = blocks.reshape(groups, outputs // groups, inputs, taps)
        filled = np.zeros((len(windows), places), np.bool_)
        for tap in range(taps):
            rows = np.flatnonzero(windows[:, tap] >= 0)
            columns = windows[rows, tap]
            self.require(not filled[rows, columns].any(), "a window meets a place twice.")
            filled[rows, columns] = True
            for group in range(groups):
                part = found[group, :, :, group]
                part[:, rows, :, columns] = kernels[group, :, :, tap]
        return found.reshape(outputs * len(windows), inputs * groups * places)


def _linear(layer: Layer) -> tuple[Action, Shape]:
    weight = layer.numbers("weight")
    layer.require(weight.ndim == 2 and layer.shape == weight.shape[1:], "other data than the "
                  f"network's, or a Flatten is missing: its weight is {weight.shape}.")  # fmt: skip
    layer.require(weight.size <= MOST_ENTRIES, f"more than {MOST_ENTRIES} entries.")
    return Affine(weight, shift=_exact(layer.bias(len(weight)))), weight.shape[:1]


def _convolution(layer: Layer) -> tuple[Action, Shape]:
    """y[o, q] = b[o] + sum over i, j of w[o, i, j] x[i, stride q + dilation j - padding]."""
    weight = layer.numbers("weight")
    groups: Any = layer.fields.get("groups")
    fits = type(groups) is int and groups >= 1 and weight.ndim == len(layer.shape) + 1 >= 3
    fits = fits and layer.fields["kind"] == f"Conv{weight.ndim - 2}d" and not len(weight) % groups
    layer.require(fits and layer.shape[0] == weight.shape[1] * groups,
                  f"its weight of shape {weight.shape} does not fit.")  # fmt: skip
    mode, padding = layer.fields.get("padding_mode"), layer.fields.get("padding")
    layer.require(mode in ("zeros", "circular"), "this checker pads with zeros or circularly only.")
    kernel, dilation = weight.shape[2:], layer.sizes("dilation", 1)
    if padding == "same":
        spans = [d * (k - 1) for d, k in zip(dilation, kernel, strict=True)]
        pads = [(span // 2, span - span // 2) for span in spans]
    else:
        known = [0] * len(kernel) if padding == "valid" else layer.sizes("padding", 0)
        pads = [(p, p) for p in known]
    circular = mode == "circular"
    wraps = any(max(p) > n for p, n in zip(pads, layer.shape[1:], strict=True))
    layer.require(not (circular and wraps), "its padding is longer than the points.")
    windows, out = layer.windows(kernel, pads, dilation, circular)
    matrix = layer.matrix(windows, weight.reshape(*weight.shape[:2], -1), groups)
    shift = _exact(layer.bias(len(weight)).repeat(len(windows)))
    return Affine(matrix, shift=shift), (len(weight), *out)


def _pool(layer: Layer) -> tuple[Array, Shape]:
    kernel, padding = layer.sizes("kernel_size", 1), layer.sizes("padding", 0)
    layer.require(layer.fields.get("ceil_mode") is False, "this checker knows no ceil_mode.")
    dilation = layer.sizes("dilation", 1) if "dilation" in layer.fields else (1,) * len(kernel)
    windows, out = layer.windows(kernel, [(p, p) for p in padding], dilation)
    layer.require((windows >= 0).any(1).all(), "windows of nothing but padding.")
    return windows, (layer.shape[0], *out)


def _average(layer: Layer) -> tuple[Action, Shape]:
    whole = layer.fields.get("count_include_pad") is True or not any(layer.sizes("padding", 0))
    layer.require(whole and layer.fields.get("divisor_override") is None,
                  "this checker divides by the size of the kernel only.")  # fmt: skip
    return _averaged(layer, *_pool(layer))


def _adaptive(layer: Layer) -> tuple[Action, Shape]:
    out, size = layer.sizes("output_size", 1), layer.shape[1:]
    layer.require(not any(n % o for n, o in zip(size, out, strict=True)),
                  f"{out} does not divide {size}.")  # fmt: skip
    kernel = [n // o for n, o in zip(size, out, strict=True)]
    fields = {"kernel_size": kernel, "stride": kernel, "padding": 0, "ceil_mode": False}
    return _averaged(layer, *_pool(Layer(layer.path, fields, {}, layer.shape)))


def _averaged(layer: Layer, windows: Array, shape: Shape) -> tuple[Action, Shape]:
    taps, channels = windows.shape[1], shape[0]
    matrix = layer.matrix(windows, np.ones((channels, 1, taps)), groups=channels)
    return Affine(matrix, [1 / arb(taps)] * math.prod(shape)), shape


def _maximum(layer: Layer) -> tuple[Action, Shape]:
    """|max x - max y| <= max |x - y|, and an input lies in at most ``shared`` windows."""
    windows, shape = _pool(layer)
    shared = arb(int(np.unique(windows[windows >= 0], return_counts=True)[1].max()))
    met = [[place for place in window if place >= 0] for window in windows.tolist()]
    places = math.prod(layer.shape[1:])

    def run(vector: Vector) -> Vector:
        channels = [vector[i : i + places] for i in range(0, len(vector), places)]
        return [
            reduce(arb.max, [channel[at] for at in window])
            for channel in channels
            for window in met
        ]

    return Bent(run, shared.sqrt(), arb(1), shared), shape


def _normalised(layer: Layer) -> tuple[Action, Shape]:
    try:
        mean, std = (
            np.broadcast_to(layer.numbers(n), layer.shape).ravel() for n in ("mean", "std")
        )
    except ValueError as error:
        raise Unreadable(f"layer {layer.path} does not fit points of {layer.shape}.") from error
    layer.require((std > 0).all(), "its std holds numbers that are not greater than 0.")
    scale = [1 / ball for ball in _exact(std)]
    return Affine(
        None, scale, [-m * s for m, s in zip(_exact(mean), scale, strict=True)]
    ), layer.shape


def _batch_norm(layer: Layer) -> tuple[Action, Shape]:
    """w (x - mean) / sqrt(var + eps) + b, a channel."""
    counter = f"{layer.path}.num_batches_tracked" if layer.path else "num_batches_tracked"
    layer.require(layer.tensors.pop(counter, None) is not None, "its counter is missing.")
    eps, ones = layer.fields.get("eps"), np.ones(layer.shape[0])
    names = ("weight", "bias") if layer.fields.get("affine") is True else ()
    weight, bias = [layer.numbers(name) for name in names] or [ones, 0 * ones]
    numbers = (weight, bias, layer.numbers("running_mean"), layer.numbers("running_var"))
    layer.require(isinstance(eps, float) and math.isfinite(eps) and all(
        part.shape == ones.shape for part in numbers), "its numbers do not fit.")  # fmt: skip
    scale, shift, copies = Vector(), Vector(), math.prod(layer.shape[1:])
    for w, b, mean, variance in zip(*map(_exact, numbers), strict=True):
        layer.require(variance >= 0 and variance + arb(eps) > 0, "a variance is not positive.")
        scale += [w / (variance + arb(eps)).sqrt()] * copies
        shift += [b - mean * scale[-1]] * copies
    return Affine(None, scale, shift), layer.shape


def _sorting(layer: Layer) -> tuple[Action, Shape]:
    """Groups of consecutive channels in ascending order, at every place."""
    size: Any = 2 if layer.fields["kind"] == "MinMax" else layer.fields.get("size")
    layer.require(type(size) is int and size > 1 and layer.shape[0] % size == 0,
                  f"the channels are no groups of {size!r:.40}.")  # fmt: skip
    places = np.arange(math.prod(layer.shape)).reshape(layer.shape[0] // size, size, -1)
    groups = places.transpose(0, 2, 1).reshape(-1, size).tolist()

    def run(vector: Vector) -> Vector:
        found = list(vector)
        for group in groups:
            for end in range(size - 1, 0, -1):
                for a, b in pairwise(group[: end + 1]):
                    found[a], found[b] = found[a].min(found[b]), found[a].max(found[b])
        return found

    return Bent(run, arb(1), arb(1), arb(1)), layer.shape


def _downsampled(layer: Layer) -> tuple[Action, Shape]:
    layer.require(len(layer.shape) == 3 and not (layer.shape[1] % 2 or layer.shape[2] % 2),
                  "expected channels, even height and even width.")  # fmt: skip
    places = np.arange(math.prod(layer.shape)).reshape(layer.shape)
    corners = np.concatenate([places[:, i::2, j::2] for i in (0, 1) for j in (0, 1)])
    order = corners.ravel().tolist()
    return Bent(lambda v: [v[i] for i in order], arb(1), arb(1), arb(1)), corners.shape


def _in_room(read: Callable[[Layer], tuple[Action, Shape]], room: str) -> Any:
    """For points of channels and so many dimensions: torch takes others with the batch as one."""
    dims = 1 + int(room[0])

    def checked(layer: Layer) -> tuple[Action, Shape]:
        layer.require(len(layer.shape) == dims, f"expected {dims} dimensions (channels and size).")
        return read(layer)

    return checked


def _elementwise(function: Callable[[arb], arb], constant: arb) -> Callable[[Layer], Any]:
    bent = Bent(lambda vector: [function(x) for x in vector], constant, constant, constant)
    return lambda layer: (bent, layer.shape)


def _leaky(layer: Layer) -> tuple[Action, Shape]:
    slope = layer.fields.get("negative_slope")
    layer.require(isinstance(slope, float) and abs(slope) < 2.0**100, f"slope {slope!r:.40}.")
    exact = arb(slope)
    return _elementwise(lambda x: x.max(arb(0)) + exact * x.min(arb(0)), abs(exact).max(arb(1)))(
        layer
    )


def _flattened(layer: Layer) -> tuple[Action, Shape]:
    ends = (layer.fields.get("start"), layer.fields.get("end"))
    layer.require(ends == (1, -1), "this checker knows Flatten(1, -1) only.")
    return None, (math.prod(layer.shape),)


def _exact(numbers: Array) -> Vector:
    return [arb(number) for number in numbers.tolist()]


ROOMS = ("1d", "2d", "3d")
KINDS: dict[str, Callable[[Layer], tuple[Action, Shape]]] = {
    "Linear": _linear,
    **{f"Conv{room}": _convolution for room in ROOMS},
    **{f"AvgPool{room}": _in_room(_average, room) for room in ROOMS},
    **{f"AdaptiveAvgPool{room}": _in_room(_adaptive, room) for room in ROOMS},
    **{f"MaxPool{room}": _in_room(_maximum, room) for room in ROOMS},
    **{f"BatchNorm{room}": _batch_norm for room in ROOMS},
    "InputNormalisation": _normalised,
    "MinMax": _sorting,
    "GroupSort": _sorting,
    "InvertibleDownsampling": _downsampled,
    "ReLU": _elementwise(lambda x: x.max(arb(0)), arb(1)),
    "ReLU6": _elementwise(lambda x: x.max(arb(0)).min(arb(6)), arb(1)),
    "Abs": _elementwise(abs, arb(1)),
    "LeakyReLU": _leaky,
    "Tanh": _elementwise(lambda x: x.tanh(), arb(1)),
    "Sigmoid": _elementwise(lambda x: (1 + (x / 2).tanh()) / 2, arb(0.25)),
    "Flatten": _flattened,
    **{f"Dropout{room}": lambda layer: (None, layer.shape) for room in ("", *ROOMS)},
    "Identity": lambda layer: (None, layer.shape),
}
