"""What a report of a fault needs to know: versions, devices, and how products are computed."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import re
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from relaxcert.data.cache import cache_folder
from relaxcert.errors import RelaxcertError
from relaxcert.lipschitz.arithmetic import check_arithmetic, check_float32_products

_SIZE = 96  # of the matrices that are multiplied; their exact product takes a tenth of a second
_BITS = {torch.float64: 53, torch.float32: 24}
_FLAGS = re.compile(r"sse4_2|avx\w*|fma|f16c|amx\w*|asimd\w*|sve\w*")


def environment() -> dict[str, Any]:
    """Versions, machine, devices and arithmetic of this process, as plain data for JSON.

    ``problems`` says in words what would stop certification here; empty where nothing would.
    """
    devices = [_device(torch.device(name)) for name in _device_names()]
    return {
        "relaxcert": _own_version(),
        "python": f"{platform.python_implementation()} {platform.python_version()}",
        "platform": platform.platform(),
        "packages": _packages(),
        "cpu": {
            "usable_cores": _usable_cores(),
            "capability": torch.backends.cpu.get_cpu_capability(),
            "flags": _cpu_flags(),
        },
        "threads": {"torch": torch.get_num_threads(), "between": torch.get_num_interop_threads()},
        "devices": devices,
        "free_bytes": _free_bytes(),
        "problems": [problem for device in devices for problem in device["problems"]],
    }


def products_are_conventional(
    device: torch.device,
    dtype: torch.dtype,
    multiply: Callable[[Tensor, Tensor], Tensor] = torch.matmul,
) -> bool:
    """Whether a matrix product of this process keeps the error bound of conventional sums.

    For plain sums of products in any order, |fl(AB) - AB| <= gamma_n |A| |B| in *every* entry
    (Higham 2002, section 3.5), with gamma_n = n u / (1 - n u). Reduced precision (TF32, bfloat16)
    breaks that at once, and fast multiplication does on rows of very different sizes, as here.
    Compared with the exact product over the integers. Evidence, not proof: one product is tried.
    """
    bits = _BITS[dtype]
    draws = np.random.default_rng(0)
    # Integers of exactly ``bits`` bits, so that no truncation of the operands goes unseen.
    left, right = (
        draws.integers(2 ** (bits - 1), 2**bits, (_SIZE, _SIZE)) * draws.choice([-1, 1], _SIZE)
        for _ in range(2)
    )
    scale = np.ldexp(1.0, draws.integers(-60, 0, (_SIZE, 1)))  # powers of two: exact
    operands = (torch.from_numpy(left * scale), torch.from_numpy(right.astype(np.float64)))
    first, second = (operand.to(device, dtype) for operand in operands)
    product = multiply(first, second).double().cpu().numpy() / scale
    if not np.isfinite(product).all():
        return False
    left, right = left.astype(object), right.astype(object)
    error = np.abs(np.vectorize(int, otypes=[object])(product) - left @ right)
    allowed = _SIZE * (np.abs(left) @ np.abs(right))
    return bool((error * (2**bits - _SIZE) <= allowed).all())


def _device_names() -> list[str]:
    return ["cpu", *(f"cuda:{index}" for index in range(torch.cuda.device_count()))]


def _device(device: torch.device) -> dict[str, Any]:
    """One device: its name, and what was found about its arithmetic."""
    found: dict[str, Any] = {"device": str(device), "problems": []}
    if device.type == "cuda":
        found["name"] = torch.cuda.get_device_name(device)
        found["memory_bytes"] = torch.cuda.get_device_properties(device).total_memory
    found["float64_products_conventional"] = products_are_conventional(device, torch.float64)
    found["float32_products_conventional"] = products_are_conventional(device, torch.float32)
    found["float32_refused"] = _refusal(check_float32_products, device)
    refused = _refusal(check_arithmetic, device)
    if refused is not None:
        found["problems"].append(f"{device}: {refused}")
    if not found["float64_products_conventional"]:
        found["problems"].append(
            f"{device}: float64 matrix products are not conventional sums (fewer bits, or a fast "
            "algorithm), on which every certificate rests: do not certify there."
        )
    return found


def _refusal(check: Callable[[torch.device], None], device: torch.device) -> str | None:
    try:
        check(device)
    except RelaxcertError as error:
        return str(error)
    return None


def _own_version() -> str:
    from relaxcert import __version__

    return __version__


def _packages() -> dict[str, dict[str, Any]]:
    """Each package that relaxcert may use: its version here or None, and which extras bring it."""
    try:
        requirements = importlib.metadata.requires("relaxcert") or []
    except importlib.metadata.PackageNotFoundError:
        return {}  # run from a source tree that is not installed
    found: dict[str, dict[str, Any]] = {}
    for line in requirements:
        name = re.split(r"[^A-Za-z0-9._-]", line, maxsplit=1)[0]
        extra = re.search(r"extra == ['\"]([\w-]+)['\"]", line)
        entry = found.setdefault(name, {"version": _version(name), "extras": []})
        if extra is not None and extra[1] not in entry["extras"]:
            entry["extras"].append(extra[1])
    found.pop("relaxcert", None)
    return found


def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def _usable_cores() -> int:
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _cpu_flags() -> list[str]:
    """Vector instructions, where the system tells (Linux)."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return []
    flags = next((line for line in lines if line.startswith(("flags", "Features"))), "")
    return sorted({word for word in flags.split() if _FLAGS.fullmatch(word)})


def _free_bytes() -> dict[str, int | None]:
    """Free disk space where files are written: here, for temporary files, in the cache."""
    folders = {
        "here": Path.cwd(),
        "temporary": Path(tempfile.gettempdir()),
        "cache": cache_folder(),
    }
    return {name: _free(folder) for name, folder in folders.items()}


def _free(folder: Path) -> int | None:
    existing = next((place for place in (folder, *folder.parents) if place.exists()), None)
    return None if existing is None else shutil.disk_usage(existing).free
