"""Is the arithmetic of this process the one that the theorems assume? If not: refuse."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Generator
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
    slower. (For float64 on the CPU torch does so anyway.) Except autocast these are settings of the
    whole process: they stay off until the last of all threads that are inside has left, and other
    threads compute more slowly meanwhile.
    """
    with without_autocast(device), _OFF["cuda" if device.type == "cuda" else "cpu"]:
        yield


class _Off:
    """Settings of the process that are off while at least one thread is inside."""

    def __init__(self, turn_off: Callable[[ExitStack], None]) -> None:
        self.turn_off = turn_off
        self.lock = threading.Lock()
        self.inside = 0
        self.restore = ExitStack()

    def __enter__(self) -> None:
        with self.lock:
            if self.inside == 0:
                self.turn_off(self.restore)
            self.inside += 1

    def __exit__(self, *exception: object) -> None:
        with self.lock:
            self.inside -= 1
            if self.inside == 0:
                self.restore.close()


def _turn_off_on_cpu(restore: ExitStack) -> None:
    if torch.backends.mkldnn.is_available():
        # Not torch.backends.mkldnn.flags, which also sets TF32 and warns about it.
        restore.callback(torch._C._set_mkldnn_enabled, torch._C._get_mkldnn_enabled())  # pyright: ignore
        torch._C._set_mkldnn_enabled(False)  # pyright: ignore
    if torch.backends.nnpack.is_available():
        restore.enter_context(torch.backends.nnpack.flags(enabled=False))


def _turn_off_on_cuda(restore: ExitStack) -> None:
    restore.enter_context(_OFF["cpu"])
    restore.enter_context(torch.backends.cudnn.flags(enabled=False, allow_tf32=False))


_OFF = {"cpu": _Off(_turn_off_on_cpu), "cuda": _Off(_turn_off_on_cuda)}


def convolutions_are_conventional(device: torch.device, dtype: torch.dtype) -> bool:
    """Whether convolutions are plain sums of products with the present settings of the process."""
    if device.type == "cuda":
        return not torch.backends.cudnn.enabled
    if dtype == torch.float64:
        return True
    return not (torch._C._get_mkldnn_enabled() or torch._C._get_nnpack_enabled())  # pyright: ignore
