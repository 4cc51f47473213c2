"""Are the numbers of a network still those of the proof? Every bit is compared, at every call.

A version counter would cost nothing, and would not see changes through ``p.data``.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor, nn

# (address, address, bytes) -> 0 if the bytes are the same
Compare = Callable[[int, int, int], int]


def _libc_memcmp() -> Compare | None:
    """memcmp of the C library, which stops at the first difference; None where there is none."""
    try:
        found = ctypes.CDLL(None).memcmp
    except (OSError, AttributeError, TypeError):  # Windows knows no handle of the process itself
        return None
    found.argtypes = (ctypes.c_void_p, ctypes.c_void_p, ctypes.c_size_t)
    found.restype = ctypes.c_int
    return found


memcmp: Compare | None = _libc_memcmp()


def tensors_of(backbone: nn.Module) -> Iterable[Tensor]:
    """Parameters and buffers: all stored numbers that the function depends on.

    One that is used in several places comes once for each: which ones share it may change.
    """
    parameters = backbone.named_parameters(remove_duplicate=False)
    for _, tensor in (*parameters, *backbone.named_buffers(remove_duplicate=False)):
        yield tensor.detach()


def same_tensors(live: Iterable[Tensor], kept: tuple[Tensor, ...]) -> bool:
    """Whether there are as many, of the same types, shapes, devices and numbers."""
    present = tuple(live)
    return len(present) == len(kept) and all(
        _same(one, other) for one, other in zip(present, kept, strict=True)
    )


def _same(live: Tensor, kept: Tensor) -> bool:
    return (
        live.dtype == kept.dtype
        and live.shape == kept.shape
        and live.device == kept.device
        and same_numbers(live, kept)
    )


def same_numbers(live: Tensor, kept: Tensor) -> bool:
    """Whether two tensors of one shape and dtype hold the same numbers.

    Byte by byte where both lie plainly in memory (a tenth of the time of ``torch.equal``, and 0
    then differs from -0, which is proved anew without need); else as ``torch.equal`` has it.
    """
    if memcmp is None or not (_lies_plainly(live) and _lies_plainly(kept)):
        return torch.equal(live, kept)
    return memcmp(live.data_ptr(), kept.data_ptr(), live.nbytes) == 0


def _lies_plainly(tensor: Tensor) -> bool:
    """Whether the numbers are the bytes from ``data_ptr`` on, in order."""
    kind: Any = type(tensor)
    return (
        kind in (Tensor, nn.Parameter)
        and tensor.layout == torch.strided
        and tensor.device.type == "cpu"
        and tensor.is_contiguous()
        and not tensor.is_neg()
        and not tensor.is_conj()
    )
