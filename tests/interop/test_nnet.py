"""Reading .nnet files: the numbers, the conventions, and every way in which a file can be wrong."""

from __future__ import annotations

import math
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from relaxcert.errors import InvalidInput, ModelFileError, OutOfRangeWarning
from relaxcert.heads import GloRoNet
from relaxcert.interop import read_nnet
from relaxcert.nn.layers import InputNormalisation
from relaxcert.spec import Local

ACAS = Path(__file__).parents[3] / "shared" / "data" / "acasxu"

SMALL = """\
// a comment, in any bytes: \xe9
// another
2,2,3,4,
2,4,3,
0,
0.0,-3.25,
10.0,3.25,
5.0,0.0,7.5,
10.0,6.5,373.9,
0.1,-2.0,
1.5,2.5e-1,
-1.,.5,
3,+4,
0.5,
-0.5,
0.25,
0,
1,2,3,4,
-1,-2,-3,-4,
0.5,0,0,1,
0.1,
0.2,
-0.3,
"""


@pytest.fixture
def write(tmp_path):
    def write_it(text: str | bytes) -> Path:
        path = tmp_path / "small.nnet"
        path.write_bytes(text if isinstance(text, bytes) else text.encode("latin-1"))
        return path

    return write_it


def without(line: int) -> str:
    """SMALL without its line of that number (from 1)."""
    lines = SMALL.splitlines(keepends=True)
    return "".join(lines[: line - 1] + lines[line:])


def replaced(line: int, text: str) -> str:
    lines = SMALL.splitlines(keepends=True)
    lines[line - 1] = text + "\n"
    return "".join(lines)


def test_the_numbers_are_those_of_the_file(write):
    found = read_nnet(write(SMALL), best="max")
    first, activation, last = found.network
    assert isinstance(activation, nn.ReLU)
    assert first.weight.tolist() == [[0.1, -2.0], [1.5, 0.25], [-1.0, 0.5], [3.0, 4.0]]
    assert first.bias.tolist() == [0.5, -0.5, 0.25, 0.0]
    assert last.weight.tolist() == [[1, 2, 3, 4], [-1, -2, -3, -4], [0.5, 0, 0, 1]]
    assert last.bias.tolist() == [0.1, 0.2, -0.3]
    assert (found.minimum.tolist(), found.maximum.tolist()) == ([0, -3.25], [10, 3.25])
    assert (found.mean.tolist(), found.range.tolist()) == ([5, 0], [10, 6.5])
    assert (found.output_mean, found.output_range) == (7.5, 373.9)
    assert all(p.dtype == torch.float64 and p.requires_grad for p in found.network.parameters())


def test_the_smallest_score_becomes_the_largest_logit_exactly(write):
    inputs = torch.randn(50, 2, dtype=torch.float64)
    scores = read_nnet(write(SMALL), best="max").network(inputs)
    assert torch.equal(read_nnet(write(SMALL)).network(inputs), -scores)


def test_physical_units_are_normalised_by_a_layer(write):
    physical = read_nnet(write(SMALL), units="physical")
    normalised = read_nnet(write(SMALL))
    inputs = torch.rand(50, 2, dtype=torch.float64) * 6
    assert isinstance(physical.network[0], InputNormalisation)
    assert physical.network[0].std.dtype == torch.float64
    expected = normalised.network(normalised.normalise(inputs))
    assert torch.equal(physical.network(inputs), expected)
    torch.testing.assert_close(normalised.denormalise(normalised.normalise(inputs)), inputs)
    # eps is in the units of the input: 6.5 of them are what 1 normalised unit can be.
    narrow = GloRoNet(physical.network, Local(eps=0.065)).verify().norms["l2"].product
    wide = GloRoNet(normalised.network, Local(eps=0.01)).verify().norms["l2"].product
    assert math.isclose(narrow * 6.5, wide, rel_tol=1e-12)


@pytest.mark.parametrize("words", [{"best": "least"}, {"units": "feet"}])
def test_other_words_are_refused(write, words):
    with pytest.raises(InvalidInput, match=next(iter(words))):
        read_nnet(write(SMALL), **words)


@pytest.mark.parametrize("lines", range(len(SMALL.splitlines())))
def test_a_file_cut_off_at_any_line_is_refused(write, lines):
    text = "".join(SMALL.splitlines(keepends=True)[:lines])
    with pytest.raises(ModelFileError, match=rf"small.nnet, line {lines}: the file ends here"):
        read_nnet(write(text))


@pytest.mark.parametrize("line", range(3, len(SMALL.splitlines()) + 1))
def test_a_file_without_one_of_its_lines_is_refused(write, line):
    with pytest.raises(ModelFileError, match=r"small.nnet, line \d+: "):
        read_nnet(write(without(line)))


@pytest.mark.parametrize(
    ("line", "text", "message"),
    [
        (3, "2,3,3,4,", "begin with 2 and end with 3, but the header says 3 inputs"),
        (3, "2,2,5,4,", "header says 2 inputs and 5 outputs"),
        (3, "3,2,3,4,", "expected 4 numbers, found 3"),
        (3, "2,2,3,5,", "largest layer has 4, but the header says 5"),
        (3, "2,2,3,", "expected 4 numbers, found 3"),
        (3, "1e30,2,3,4,", "whole number from 1"),
        (3, "2.5,2,3,4,", "whole number from 1"),
        (3, "0,2,3,4,", "whole number from 1"),
        (3, "200,2,3,4,", "200 layers do not fit into a file of"),
        (4, "2,200,3,", "the largest layer has 200"),
        (4, "2,-4,3,", "whole number from 1"),
        (8, "5.0,0.0,", "means of the inputs and the output: expected 3 numbers, found 2"),
        (9, "10.0,0,373.9,", "each range must be greater than 0"),
        (7, "10.0,-4,", "maxima must exceed the minima"),
        (10, "0.1,nan,", "'nan' is not a finite number"),
        (10, "0.1,inf,", "'inf' is not a finite number"),
        (10, "0.1,1e999,", "'1e999' is not a finite number"),
        (10, "0.1,1_000,", "'1_000' is not a finite number"),
        (10, "0.1,,", "'' is not a finite number"),
        (10, "0.1,0x1p3,", "'0x1p3' is not a finite number"),
        (10, "0.1,\xb2,", "bytes that are not text"),
        (10, "0.1,2,3,", "weights of layer 1, row 1 of 4: expected 2 numbers, found 3"),
        (14, "0.5,0.5,", "biases of layer 1, 1 of 4: expected 1 numbers, found 2"),
        (23, "-0.3,\n7,", "more lines follow"),
    ],
)
def test_a_file_that_contradicts_itself_is_refused_with_its_line(write, line, text, message):
    with pytest.raises(ModelFileError, match=rf"small.nnet, line \d+: .*{message}"):
        read_nnet(write(replaced(line, text)))


def test_sizes_are_compared_with_the_file_before_memory_is_taken(write):
    huge = "2,500,500,500,\n500,500,500,\n" + "//" + "x" * 600
    with pytest.raises(ModelFileError, match="501000 weights, which a file of"):
        read_nnet(write(huge))


def test_files_that_are_none(tmp_path, write, monkeypatch):
    for path in (tmp_path / "missing.nnet", tmp_path):
        with pytest.raises(ModelFileError, match="no such file"):
            read_nnet(path)
    with pytest.raises(ModelFileError, match="line 1: the line holds bytes that are not text"):
        read_nnet(write(bytes(range(128, 256))))
    monkeypatch.setattr("relaxcert.interop.nnet._LINE", 100)
    with pytest.raises(ModelFileError, match="line 1: the line is longer"):
        read_nnet(write("0," * 100))
    monkeypatch.setattr("relaxcert.interop.nnet._LIMIT", 100)
    with pytest.raises(ModelFileError, match="more than the 100 that are read"):
        read_nnet(write(SMALL))


def test_points_outside_the_region_are_noticed(write):
    found = read_nnet(write(SMALL))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found.warn_if_outside(torch.tensor([[5.0, 3.25], [10.0, -3.2500001]]))
    with pytest.warns(OutOfRangeWarning, match=r"input 1 of point 1 is 90, .*1 of 2 points"):
        found.warn_if_outside(torch.tensor([[5.0, 3.0], [5.0, 90.0]]))
    with pytest.raises(InvalidInput, match="takes 2 inputs"):
        found.warn_if_outside(torch.zeros(3, 4))


def _plain_numpy(path: Path, inputs: np.ndarray) -> np.ndarray:
    """A second reading of the format, as short as can be."""
    lines = [line for line in path.read_text().splitlines() if not line.startswith("//")]
    rows = [[float(word) for word in line.split(",") if word.strip()] for line in lines]
    sizes, rest = [int(size) for size in rows[1]], rows[7:]
    for place, after in enumerate(sizes[1:], start=1):
        weight, bias, rest = np.array(rest[:after]), rest[after : 2 * after], rest[2 * after :]
        inputs = inputs @ weight.T + np.array(bias)[:, 0]
        if place < len(sizes) - 1:
            inputs = np.maximum(inputs, 0)
    return inputs


@pytest.mark.skipif(not ACAS.is_dir(), reason="the ACAS Xu networks are not on this machine")
def test_the_public_networks():
    files = sorted(ACAS.glob("*.nnet"))
    assert files
    for path in files:
        found = read_nnet(path)
        sizes = [layer.in_features for layer in found.network if isinstance(layer, nn.Linear)]
        assert (*sizes, found.network[-1].out_features) == (5, 50, 50, 50, 50, 50, 50, 5)
        torch.testing.assert_close(
            found.range, torch.tensor([60261, 2 * math.pi, 2 * math.pi, 1100, 1200]).double()
        )
        inputs = torch.rand(200, 5, dtype=torch.float64) - 0.5
        expected = -_plain_numpy(path, inputs.numpy())
        np.testing.assert_allclose(found.network(inputs).detach().numpy(), expected, rtol=1e-9)
