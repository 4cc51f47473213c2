"""Reading ``.nnet``, the text format of the ACAS Xu networks.

Comment lines begin with ``//``. Then, each number followed by a comma: layers, inputs, outputs,
largest layer; the sizes of all layers; a flag without meaning; minima and maxima of the inputs;
means and ranges of the inputs and, last, of the output. Then for each layer its weight rows, a row
a line, and its biases, one a line. ReLU stands between layers, nothing after the last.
"""

from __future__ import annotations

import math
import re
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor, nn

from relaxcert.errors import InvalidInput, ModelFileError, OutOfRangeWarning
from relaxcert.nn.layers import InputNormalisation

Best = Literal["min", "max"]
Units = Literal["normalised", "physical"]

_LIMIT = 512 * 2**20  # bytes of a file; the 45 ACAS Xu networks have 0.2 MB each
_LINE = 16 * 2**20  # bytes of a line
# float() alone would also take 1_000, nan, inf and digits of other scripts.
_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?", re.ASCII)


@dataclass(frozen=True)
class NNet:
    """A network read from a ``.nnet`` file, with the normalisation that the file states.

    Attributes:
        network: (batch, inputs) -> (batch, outputs), float64, in eval mode. Larger outputs are
            better, whatever the file's convention was.
        units: what ``network`` takes: ``normalised`` inputs, (x - mean) / range, or ``physical``.
        best: the convention of the file: ``min`` if its last layer was negated.
        minimum, maximum: the input region, (inputs,) float64, in physical units.
        mean, range: the normalisation of the inputs, (inputs,) float64, in physical units.
        output_mean, output_range: output = score of the file * output_range + output_mean. Not
            applied: it changes no ranking.
    """

    network: nn.Sequential
    units: Units
    best: Best
    minimum: Tensor
    maximum: Tensor
    mean: Tensor
    range: Tensor
    output_mean: float
    output_range: float

    def normalise(self, physical: Tensor) -> Tensor:
        """(x - mean) / range; (batch, inputs) in physical units -> normalised, float64."""
        return (self._checked(physical) - self.mean) / self.range

    def denormalise(self, normalised: Tensor) -> Tensor:
        """z * range + mean; (batch, inputs) normalised -> in physical units, float64."""
        return self._checked(normalised) * self.range + self.mean

    def warn_if_outside(self, physical: Tensor, *, normalised: bool = False) -> None:
        """Warn if points lie outside the input region, as angles in degrees do.

        Args:
            physical: (batch, inputs), in physical units.
            normalised: they were given as normalised points, which the warning then says.

        Raises:
            InvalidInput: another number of inputs.
        """
        points = self._checked(physical)
        # Points made in float32, or with more digits of pi than the file has, are not outside.
        room = 1e-6 * (self.maximum - self.minimum)
        outside = (points < self.minimum - room) | (points > self.maximum + room)
        if not bool(outside.any()):
            return
        point, place = (int(index) for index in outside.nonzero()[0])
        warnings.warn(
            f"input {place} of point {point} is {float(points[point, place]):g}, but the network "
            f"was made for {float(self.minimum[place]):g} to {float(self.maximum[place]):g} "
            f"({int(outside.any(1).sum())} of {len(points)} points lie outside): are angles in "
            "radians, distances in feet"
            + (", and the points normalised, (x - mean) / range?" if normalised else "?"),
            OutOfRangeWarning,
            stacklevel=2,
        )

    def warn_of_inputs(self, points: Tensor) -> None:
        """Warn if points, as ``network`` takes them, lie outside the input region.

        Normalised points that are not normalised, or that were made from degrees, are noticed.

        Args:
            points: (batch, inputs), in the units of ``network``.

        Raises:
            InvalidInput: another number of inputs.
        """
        physical = points if self.units == "physical" else self.denormalise(points)
        self.warn_if_outside(physical, normalised=self.units == "normalised")

    def _checked(self, points: Tensor) -> Tensor:
        if points.dim() != 2 or points.shape[1] != len(self.mean):
            raise InvalidInput(
                f"points have shape {tuple(points.shape)}, expected (batch, {len(self.mean)}): the "
                f"network takes {len(self.mean)} inputs."
            )
        return points.to(torch.float64)


def read_nnet(path: str | Path, *, best: Best = "min", units: Units = "normalised") -> NNet:
    """Read a ``.nnet`` file.

    Each weight becomes the float64 nearest to its decimal, and certificates speak of these numbers.

    Args:
        path: the file.
        best: which score the file's network advises: ``min``, as ACAS Xu does, or ``max``. With
            ``min`` the last layer's weights and biases are negated, which is exact, so that larger
            is better.
        units: ``normalised``: the network takes (x - mean) / range, and the eps of a property is
            measured in these normalised inputs (so the paper's 0.01). ``physical``: an
            InputNormalisation layer comes first; the eps is then measured in the file's own units,
            in which one foot weighs as much as one radian. Inputs are never clipped to the region.

    Raises:
        InvalidInput: best or units is not one of these words.
        ModelFileError: the file is cut off, contradicts its own header, is too large, or holds
            something else than numbers; names file and line.
    """
    if best not in ("min", "max"):
        raise InvalidInput(f"best={best!r} must be 'min' or 'max': which score is the advice?")
    if units not in ("normalised", "physical"):
        raise InvalidInput(f"units={units!r} must be 'normalised' or 'physical'.")
    lines = _Lines(Path(path))
    sizes = _read_header(lines)
    minimum, maximum = (lines.vector(sizes[0], name) for name in ("minima", "maxima"))
    if not bool((minimum < maximum).all()):
        raise lines.error("the maxima must exceed the minima")
    means = lines.vector(sizes[0] + 1, "means of the inputs and the output")
    ranges = lines.vector(sizes[0] + 1, "ranges of the inputs and the output")
    if not bool((ranges > 0).all()):
        raise lines.error("each range must be greater than 0")
    layers = _read_layers(lines, sizes, negate_last=best == "min")
    lines.expect_end()
    mean, scale = means[:-1].clone(), ranges[:-1].clone()
    if units == "physical":
        normalisation = InputNormalisation(0.0, 1.0)
        # Set afterwards: its constructor rounds to float32.
        normalisation.mean, normalisation.std = mean.clone(), scale.clone()
        layers.insert(0, normalisation)
    network = nn.Sequential(*layers).eval()
    return NNet(
        network, units, best, minimum, maximum, mean, scale, float(means[-1]), float(ranges[-1])
    )


def _read_header(lines: _Lines) -> list[int]:
    count, inputs, outputs, largest = lines.whole_numbers(4, "layers, inputs, outputs, largest")
    # Compared with the file before anything of that size is read: each number takes 2 bytes.
    if (count + 1) * 2 > lines.bytes:
        raise lines.error(f"{count} layers do not fit into a file of {lines.bytes} bytes")
    sizes = lines.whole_numbers(count + 1, "sizes of the layers")
    if (sizes[0], sizes[-1]) != (inputs, outputs):
        raise lines.error(
            f"the sizes of the layers begin with {sizes[0]} and end with {sizes[-1]}, but the "
            f"header says {inputs} inputs and {outputs} outputs"
        )
    if max(sizes) != largest:
        raise lines.error(f"the largest layer has {max(sizes)}, but the header says {largest}")
    numbers = sum((before + 1) * after for before, after in pairwise(sizes))
    if numbers * 2 > lines.bytes:
        raise lines.error(
            f"layers of sizes {sizes} have {numbers} weights, which a file of {lines.bytes} bytes "
            "cannot hold"
        )
    lines.numbers(None, "the flag")
    return sizes


def _read_layers(lines: _Lines, sizes: list[int], *, negate_last: bool) -> list[nn.Module]:
    layers: list[nn.Module] = []
    for place, (before, after) in enumerate(pairwise(sizes), start=1):
        rows = [
            lines.vector(before, f"weights of layer {place}, row {row + 1} of {after}")
            for row in range(after)
        ]
        biases = [
            lines.vector(1, f"biases of layer {place}, {row + 1} of {after}")
            for row in range(after)
        ]
        sign = -1.0 if negate_last and place == len(sizes) - 1 else 1.0
        linear = nn.Linear(before, after, device="meta", dtype=torch.float64)
        linear.weight = nn.Parameter(sign * torch.stack(rows))
        linear.bias = nn.Parameter(sign * torch.cat(biases))
        layers += [linear, nn.ReLU()]
    return layers[:-1]


class _Lines:
    """The lines of a file that are not comments, as numbers, with the line for errors."""

    def __init__(self, source: Path) -> None:
        self.source = source
        if not source.is_file():
            raise ModelFileError(f"{source}: there is no such file.")
        self.bytes = source.stat().st_size
        if self.bytes > _LIMIT:
            raise ModelFileError(
                f"{source} has {self.bytes} bytes, more than the {_LIMIT} that are read: is it a "
                ".nnet file?"
            )
        self.number = 0
        self._rest = self._lines()

    def error(self, what: str) -> ModelFileError:
        """An error at the present line."""
        return ModelFileError(
            f"{self.source}, line {self.number}: {what}; the file is damaged or not in .nnet "
            "format: copy it again."
        )

    def _lines(self) -> Iterator[str]:
        with self.source.open("rb") as file:
            while line := file.readline(_LINE):
                self.number += 1
                if len(line) == _LINE:
                    raise self.error(f"the line is longer than {_LINE} bytes")
                try:
                    text = line.decode("ascii" if not line.startswith(b"//") else "latin-1")
                except UnicodeDecodeError as error:
                    raise self.error("the line holds bytes that are not text") from error
                if text.strip() and not text.startswith("//"):
                    yield text.strip()

    def numbers(self, count: int | None, what: str) -> list[float]:
        """The numbers of the next line."""
        line = next(self._rest, None)
        if line is None:
            raise self.error(f"the file ends here, but {what} should follow")
        words = [word.strip() for word in line.removesuffix(",").split(",")]
        if count is not None and len(words) != count:
            raise self.error(f"{what}: expected {count} numbers, found {len(words)}")
        return [self._number(word, what) for word in words]

    def _number(self, word: str, what: str) -> float:
        value = float(word) if _NUMBER.fullmatch(word) else math.nan
        if not math.isfinite(value):
            raise self.error(f"{what}: {word[:40]!r} is not a finite number")
        return value

    def vector(self, count: int, what: str) -> Tensor:
        """The numbers of the next line, (count,) float64."""
        return torch.tensor(self.numbers(count, what), dtype=torch.float64)

    def whole_numbers(self, count: int, what: str) -> list[int]:
        """The next line, if it holds whole numbers of at least 1."""
        values = self.numbers(count, what)
        for value in values:
            if value < 1 or value != int(value) or value > self.bytes:
                raise self.error(
                    f"{what}: {value:g} must be a whole number from 1 to what the file can hold"
                )
        return [int(value) for value in values]

    def expect_end(self) -> None:
        """Raise unless nothing but comments follows."""
        if next(self._rest, None) is not None:
            raise self.error("the last bias has been read, but more lines follow")
