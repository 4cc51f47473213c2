"""What ``relaxcert doctor`` finds: products are compared with the exact ones over the integers."""

from __future__ import annotations

import json

import pytest
import torch
from torch import Tensor

from relaxcert.report import environment as module
from relaxcert.report.environment import environment, products_are_conventional

CPU = torch.device("cpu")
DTYPES = [torch.float64, torch.float32]


def truncated(bits: int):
    """Products of operands cut to so many bits, as TF32 (11) and bfloat16 (8) do."""

    def multiply(left: Tensor, right: Tensor) -> Tensor:
        cut = []
        for operand in (left, right):
            mantissa, exponent = torch.frexp(operand)
            cut.append(torch.ldexp((mantissa * 2**bits).round() / 2**bits, exponent))
        return cut[0].to(left.dtype) @ cut[1].to(left.dtype)

    return multiply


def strassen(left: Tensor, right: Tensor) -> Tensor:
    """One step of Strassen's algorithm: its error is small in norm only, not in every entry."""
    half = len(left) // 2
    (a, b), (c, d) = ((rows[:, :half], rows[:, half:]) for rows in left.split(half))
    (e, f), (g, h) = ((rows[:, :half], rows[:, half:]) for rows in right.split(half))
    p1, p2, p3, p4 = a @ (f - h), (a + b) @ h, (c + d) @ e, d @ (g - e)
    p5, p6, p7 = (a + d) @ (e + h), (b - d) @ (g + h), (a - c) @ (e + f)
    top = torch.cat([p5 + p4 - p2 + p6, p1 + p2], 1)
    return torch.cat([top, torch.cat([p3 + p4, p1 + p5 - p3 - p7], 1)])


def shuffled(left: Tensor, right: Tensor) -> Tensor:
    """The sums in another order, which is as good."""
    order = torch.randperm(left.shape[1], generator=torch.Generator().manual_seed(0))
    return left[:, order] @ right[order]


def one_by_one(left: Tensor, right: Tensor) -> Tensor:
    """The plainest sums."""
    total = torch.zeros_like(left)
    for index in range(left.shape[1]):
        total = total + left[:, index, None] * right[index]
    return total


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("multiply", [torch.matmul, shuffled, one_by_one])
def test_plain_sums_in_any_order_are_conventional(dtype, multiply):
    assert products_are_conventional(CPU, dtype, multiply)


@pytest.mark.parametrize("dtype", DTYPES)
def test_fast_multiplication_is_found(dtype):
    assert not products_are_conventional(CPU, dtype, strassen)


@pytest.mark.parametrize(("dtype", "bits"), [(torch.float64, 40), (torch.float32, 11)])
def test_fewer_bits_are_found(dtype, bits):
    assert not products_are_conventional(CPU, dtype, truncated(bits))


def test_numbers_that_are_not_finite_are_no_product():
    assert not products_are_conventional(CPU, torch.float64, lambda a, b: a @ b / 0.0)


def test_everything_is_plain_data_and_says_what_is_here():
    found = environment()
    assert json.loads(json.dumps(found)) == found
    assert found["packages"]["torch"]["version"] == torch.__version__
    assert found["packages"]["torch"]["extras"] == []
    assert "attacks" in found["packages"]["foolbox"]["extras"]
    assert found["threads"]["torch"] == torch.get_num_threads()
    assert found["devices"][0]["device"] == "cpu"
    assert found["devices"][0]["float64_products_conventional"]
    assert all(size > 0 for size in found["free_bytes"].values())
    assert found["problems"] == []


def test_flushed_subnormals_are_a_problem():
    if not torch.set_flush_denormal(True):
        pytest.skip("this processor cannot flush subnormal numbers")
    try:
        assert "cpu: subnormal numbers are flushed" in environment()["problems"][0]
    finally:
        torch.set_flush_denormal(False)


def test_products_that_are_not_conventional_are_a_problem(monkeypatch):
    monkeypatch.setattr(
        module, "products_are_conventional", lambda _, dtype: dtype == torch.float32
    )
    (problem,) = environment()["problems"]
    assert "float64 matrix products are not conventional" in problem


def test_a_package_that_is_missing_has_no_version(monkeypatch):
    def missing(name: str) -> str:
        raise module.importlib.metadata.PackageNotFoundError(name)

    monkeypatch.setattr(module.importlib.metadata, "version", missing)
    assert {entry["version"] for entry in environment()["packages"].values()} == {None}
