"""Certification block by block: by any number of processes, resumable, with the same bits.

What a matrix product rounds depends on the shape of the batch, so that a point certified in other
company may get a margin with other last digits. Points are therefore taken in blocks of
``batch_size`` consecutive ones, the same ones always, and whole blocks are dealt to the ranks. Each
finished block is a file of its own; the first rank joins them in order.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from relaxcert import __version__
from relaxcert.errors import DataError
from relaxcert.files import write_atomically
from relaxcert.heads.certificates import Certificates, concatenate
from relaxcert.heads.gloronet import GloRoNet
from relaxcert.spec.canonical import digest
from relaxcert.spec.property import Property
from relaxcert.training.ranks import Ranks

PARTS = "parts"
_STAMP, _INDEX = "stamp", "index"
_OPTIONAL = "Tensor | None"  # the type of fields that only some certificates have


@dataclass(frozen=True)
class Work:
    """Points to certify in blocks.

    Attributes:
        net: certifies them, on its own device.
        inputs: (points, ...), on the CPU.
        batch_size: points a block; the last one may be smaller.
        deployed: as for ``GloRoNet.certify``.
    """

    net: GloRoNet
    inputs: Tensor
    batch_size: int
    deployed: str | None = None

    @property
    def blocks(self) -> range:
        """The numbers of the blocks."""
        return range(-(-len(self.inputs) // self.batch_size))

    def rows(self, block: int) -> range:
        """The points of a block."""
        start = block * self.batch_size
        return range(start, min(start + self.batch_size, len(self.inputs)))

    def certify(self, block: int) -> Certificates:
        """The certificates of one block."""
        rows = self.rows(block)
        # A copy: where numbers lie in memory may decide how a library multiplies them, too.
        chosen = self.inputs[rows.start : rows.stop].clone()
        weights = next(self.net.backbone.parameters(), torch.empty(0))
        return self.net.certify(chosen.to(weights.device), deployed=self.deployed)

    def stamp(self) -> dict[str, object]:
        """On what the bits of a block depend; blocks are joined only where all of it agrees."""
        shape = tuple(self.inputs.shape[1:])
        bounds = self.net.verify(shape)
        rows = [asdict(row) for row in self.net.lipschitz.table()]
        pairs = {norm: float(known.distances.largest) for norm, known in bounds.norms.items()}
        weights = next(self.net.backbone.parameters(), torch.empty(0))
        return {
            "property": self.net.digest,
            "weights": bounds.fingerprint,
            "bounds": _digest(json.dumps([rows, pairs]).encode()),
            "level": "R" if self.deployed is None else f"D({self.deployed})",
            "points": _digest(self.inputs.contiguous().view(-1).view(torch.uint8).numpy().data),
            "shape": [str(self.inputs.dtype), *self.inputs.shape],
            "batch_size": self.batch_size,
            "device": weights.device.type,
            "threads": torch.get_num_threads() if weights.device.type == "cpu" else None,
            "versions": [__version__, torch.__version__],
        }


def certify_in_memory(work: Work, advance: Callable[[int], object]) -> Certificates:
    """All blocks, one after the other; ``advance`` is told how many points are done."""
    found: list[Certificates] = []
    for block in work.blocks:
        found.append(work.certify(block))
        advance(len(work.rows(block)))
    return concatenate(found)


class Parts:
    """The blocks of one run as files in ``folder``/parts.

    Args:
        work: the points.
        folder: of the run; all ranks see it.
        ranks: this process among those that share the work.
        resume: keep the blocks that are there already.

    Raises:
        DataError: blocks of another run, or damaged ones (with ``resume``).
    """

    def __init__(self, work: Work, folder: Path, ranks: Ranks, *, resume: bool) -> None:
        self.work, self.ranks = work, ranks
        self.folder = folder / PARTS
        self.stamp = json.loads(json.dumps(work.stamp()))
        if ranks.first and not resume:
            remove_parts(folder)
        # Nobody writes before everybody has seen what is missing, so that all deal it alike.
        ranks.wait()
        self.missing = [block for block in work.blocks if not self._is_done(block)]
        ranks.wait()

    @property
    def own(self) -> list[int]:
        """The missing blocks that are this rank's."""
        return self.missing[self.ranks.rank :: self.ranks.count]

    def certify(self, advance: Callable[[int], object]) -> None:
        """Certify this rank's blocks, and wait for the others."""
        for block in self.own:
            self._write(block, self.work.certify(block))
            advance(len(self.work.rows(block)))
        self.ranks.wait()

    def joined(self) -> Certificates:
        """The certificates of all points, in order.

        Raises:
            DataError: a block is missing, damaged or of another run, or an index does not occur
                exactly once.
        """
        read = [self._read(block) for block in self.work.blocks]
        check_every_index_once(torch.cat([index for index, _ in read]), len(self.work.inputs))
        return concatenate([certificates for _, certificates in read])

    def path(self, block: int) -> Path:
        """The file of one block."""
        return self.folder / f"block-{block:07d}.safetensors"

    def _is_done(self, block: int) -> bool:
        if not self.path(block).exists():
            return False
        with _opened(self.path(block)) as file:
            self._check_stamp(self.path(block), file.metadata())
        return True

    def _write(self, block: int, certificates: Certificates) -> None:
        rows = self.work.rows(block)
        tensors = {_INDEX: torch.arange(rows.start, rows.stop), **_flat(certificates)}
        metadata = {_STAMP: json.dumps(self.stamp)}
        write_atomically(self.path(block), lambda name: save_file(tensors, name, metadata))

    def _read(self, block: int) -> tuple[Tensor, Certificates]:
        path = self.path(block)
        if not path.exists():
            raise DataError(f"{path} is missing: run again with --resume, which makes it anew.")
        with _opened(path) as file:
            self._check_stamp(path, file.metadata())
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        net, level = self.work.net, str(self.stamp["level"])
        try:
            certificates = _restored(tensors, net.prop, net, level, "")
            index = tensors[_INDEX]
        except KeyError as error:
            raise DataError(f"{path} lacks {error}: remove it and run with --resume.") from error
        if any(len(tensor) != len(index) for tensor in tensors.values()):
            raise DataError(f"{path} has columns of different lengths: remove it and resume.")
        return index, certificates

    def _check_stamp(self, path: Path, metadata: dict[str, str] | None) -> None:
        try:
            found = dict(json.loads((metadata or {}).get(_STAMP, "{}")))
        except (ValueError, TypeError, RecursionError) as error:
            raise DataError(f"{path} has no stamp of a run: remove it and resume.") from error
        for name, value in self.stamp.items():
            if found.get(name) != value:
                raise DataError(
                    f"{path} is of another run: it was made with {name}={found.get(name)!r}, and "
                    f"this run has {value!r}; use the same model, data and options (--batch-size, "
                    "--threads), or leave out --resume to start anew."
                )


def remove_parts(folder: Path) -> None:
    """Delete the blocks of a run; other files stay."""
    parts = folder / PARTS
    for path in parts.glob("*block-*.safetensors"):  # also what a kill left half-written
        path.unlink(missing_ok=True)
    with suppress(OSError):
        parts.rmdir()


def check_every_index_once(index: Tensor, points: int) -> None:
    """Raise DataError unless ``index`` is 0..points - 1, in order: nothing lost or doubled."""
    counts = torch.bincount(index, minlength=points) if len(index) else torch.zeros(points)
    wrong = torch.nonzero(counts != 1).flatten()
    if len(wrong) or len(counts) != points:
        first = int(wrong[0]) if len(wrong) else points
        raise DataError(
            f"point {first} occurs {int(counts[first])} times among the blocks instead of once: "
            "start anew without --resume."
        )
    if not torch.equal(index, torch.arange(points)):
        raise DataError("the blocks hold points in another order: start anew without --resume.")


def _flat(certificates: Certificates, prefix: str = "") -> dict[str, Tensor]:
    """Every tensor by name; those of the parts of a composition as ``0/margin``, ``1/margin``."""
    tensors = {
        f"{prefix}{name}": value.cpu().contiguous().clone()
        for name in _columns()
        if (value := getattr(certificates, name)) is not None
    }
    for place, part in enumerate(certificates.parts):
        tensors |= _flat(part, f"{prefix}{place}/")
    return tensors


def _columns() -> Iterator[str]:
    """The fields that hold a tensor, those that need not among them."""
    for field in fields(Certificates):
        if field.type in ("Tensor", _OPTIONAL):
            yield field.name


def _restored(
    tensors: dict[str, Tensor], prop: Property, net: GloRoNet, level: str, prefix: str
) -> Certificates:
    inner = [place for place in range(len(prop.parts)) if f"{prefix}{place}/margin" in tensors]
    optional = {field.name for field in fields(Certificates) if field.type == _OPTIONAL}
    columns: dict[str, Any] = {
        name: tensors[prefix + name]
        for name in _columns()
        if name not in optional or prefix + name in tensors
    }
    return Certificates(
        **columns,
        prop=prop,
        digest=digest(prop),
        fingerprint=net.verify().fingerprint,
        level=level,
        parts=tuple(
            _restored(tensors, prop.parts[place], net, level, f"{prefix}{place}/")
            for place in inner
        ),
    )


def _opened(path: Path) -> safe_open:
    try:
        return safe_open(path, framework="pt", device="cpu")
    except (SafetensorError, OSError) as error:
        raise DataError(
            f"{path} is damaged ({error}): remove it, and run again with --resume."
        ) from error


def _digest(content: bytes | memoryview) -> str:
    return hashlib.sha256(content).hexdigest()
