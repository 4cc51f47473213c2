"""Is the arithmetic of this process the one that the theorems assume? If not: refuse."""

from __future__ import annotations

import os
from collections.abc import Generator
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext

import torch

from relaxcert.errors import UnsupportedPrecision


def check_arithmetic(device: torch.device) -> None:
    """Raise UnsupportedPrecision where float64 is not plain IEEE-754 on ``device``."""
    if device.type == "cpu":
        smallest = torch.tensor([5e-324, 1e-310], dtype=torch.float64)
        # Asked by comparison: a conversion to Python would hide what the vector unit does.
        if not bool((smallest * 1.0 > 0.0).all()):
            raise UnsupportedPrecision(
                "subnormal numbers are flushed to zero in this process, so bounds could be rounded "
                "to 0: call torch.set_flush_denormal(False) before certifying."
            )
    emulated = os.environ.get("CUBLAS_EMULATE_DOUBLE_PRECISION", "0")
    if device.type == "cuda" and emulated not in ("", "0"):
        raise UnsupportedPrecision(
            f"CUBLAS_EMULATE_DOUBLE_PRECISION={emulated!r} replaces float64 products by an "
            "emulation with other rounding: unset it before certifying."
        )


def check_float32_products(device: torch.device) -> None:
    """Raise UnsupportedPrecision where float32 matrix products may use fewer bits."""
    try:
        precision = torch.get_float32_matmul_precision()
    except RuntimeError:  # torch's answer once an fp32_precision of one backend was set
        precision = "different on each backend"
    if precision != "highest":
        raise UnsupportedPrecision(
            f"float32 matmul precision is {precision!r}, which permits "
            "TF32 or bfloat16 products with far larger rounding: call "
            "torch.set_float32_matmul_precision('highest'), or use certify() (float64)."
        )
    if device.type == "cuda" and torch.backends.cuda.matmul.allow_tf32:
        raise UnsupportedPrecision(
            "torch.backends.cuda.matmul.allow_tf32 is on: set it to False, or use certify(), which "
            "runs in float64."
        )


def without_autocast(device: torch.device) -> AbstractContextManager[object]:
    """Plain arithmetic for a while; costs nothing where autocast is off (its exit takes a ms)."""
    if torch.compiler.is_compiling() or torch.is_autocast_enabled(device.type):
        return torch.autocast(device.type, enabled=False)
    return nullcontext()


@contextmanager
def conventional_products(device: torch.device) -> Generator[None]:
    """Compute products and convolutions as plain sums of products, in the dtype of the numbers.

    Turns off what may use Winograd or Fourier transforms or fewer bits: autocast, cuDNN on GPUs,
    NNPACK and oneDNN on CPUs. Convolutions are then unfolded and multiplied as matrices, which is
    slower. (For float64 on the CPU torch does so anyway.) Settings of the whole process; not for
    several threads at once.
    """
    with ExitStack() as off:
        off.enter_context(without_autocast(device))
        if device.type == "cuda":
            off.enter_context(torch.backends.cudnn.flags(enabled=False, allow_tf32=False))
        if torch.backends.mkldnn.is_available():
            # Not torch.backends.mkldnn.flags, which also sets TF32 and warns about it.
            off.callback(torch._C._set_mkldnn_enabled, torch._C._get_mkldnn_enabled())  # pyright: ignore
            torch._C._set_mkldnn_enabled(False)  # pyright: ignore
        if torch.backends.nnpack.is_available():
            off.enter_context(torch.backends.nnpack.flags(enabled=False))
        yield


def convolutions_are_conventional(device: torch.device, dtype: torch.dtype) -> bool:
    """Whether convolutions are plain sums of products with the present settings of the process."""
    if device.type == "cuda":
        return not torch.backends.cudnn.enabled
    if dtype == torch.float64:
        return True
    return not (torch._C._get_mkldnn_enabled() or torch._C._get_nnpack_enabled())  # pyright: ignore
