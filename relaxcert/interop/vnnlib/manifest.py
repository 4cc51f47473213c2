"""The manifest of exported files: which of them must be UNSAT for a point to be robust.

A uniform property is a *set* of files, robust as soon as any of them is UNSAT; a conjunction needs
all of its parts. So each point of the manifest is a tree:

    {"file": NAME, ...}      robust if the file is UNSAT
    {"any": [...]}           robust if some child is; an empty list: x itself breaks the property
    {"all": [...]}           robust if every child is

SAT of a file whose inputs are the box *around* a ball says nothing, unless the point found lies in
the ball.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, StrictInt, StrictStr, ValidationError

from relaxcert.errors import DocumentError
from relaxcert.interop.vnnlib.sexpressions import read_file
from relaxcert.interop.vnnlib.writer import InputSet, Version
from relaxcert.spec.ball import Norm
from relaxcert.spec.verdict import Answer

MANIFEST = "manifest.json"
FORMAT = "relaxcert-vnnlib"


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class FileNode(_Part):
    """One file: robust if it is UNSAT."""

    # A plain name: a manifest from elsewhere must not point out of its folder.
    file: Annotated[StrictStr, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$", max_length=255)]
    ks: tuple[StrictInt, ...]
    eps: StrictStr
    norm: Norm
    inputs: InputSet
    conjunctions: StrictInt


class AnyNode(_Part):
    """Robust if some child is."""

    any: tuple[Node, ...]


class AllNode(_Part):
    """Robust if every child is."""

    all: tuple[Node, ...]


Node = FileNode | AnyNode | AllNode
for _recursive in (AnyNode, AllNode):
    _recursive.model_rebuild()


class PointEntry(_Part):
    """One point: its place in the data, the classes in order of score, and its tree.

    ``robust`` is missing for points that were not exported; ``skipped`` says why.
    """

    index: StrictInt
    order: tuple[StrictInt, ...] | None = None
    robust: Node | None = None
    skipped: StrictStr | None = None


class Manifest(_Part):
    """What was exported, of which weights, for which property."""

    format: Literal["relaxcert-vnnlib"]
    version: Literal[1]
    vnnlib: Version
    rule: StrictStr
    property: dict[str, object]
    digest: StrictStr
    weights_sha256: StrictStr
    num_classes: StrictInt
    input_shape: tuple[StrictInt, ...]
    class_names: tuple[StrictStr, ...] | None = None
    points: tuple[PointEntry, ...]

    def to_json(self) -> str:
        """The text of ``manifest.json``."""
        content = self.model_dump(mode="json", exclude_none=True)
        return json.dumps(content, indent=2, ensure_ascii=False) + "\n"


RULE = (
    "Each file states a violation. A file is robust if it is UNSAT; 'any' if some child is; 'all' "
    "if every child is. SAT of a file whose inputs are 'box around the ball' counts only if the "
    "point found lies in the ball."
)


def read_manifest(path: str | Path) -> Manifest:
    """Read a manifest, trusting nothing.

    Raises:
        DocumentError: not JSON, not a manifest, or of another version.
    """
    source = Path(path)
    if source.is_dir():
        source = source / MANIFEST
    try:
        return Manifest.model_validate_json(read_file(source))
    except (ValidationError, RecursionError) as error:
        first = error.errors()[0] if isinstance(error, ValidationError) else None
        place = "" if first is None else f" at {'.'.join(map(str, first['loc']))}: {first['msg']}"
        raise DocumentError(
            f"{source}: not a manifest of relaxcert export --vnnlib{place}; export again."
        ) from error


def files_of(node: Node) -> list[FileNode]:
    """All files of a tree, from left to right."""
    if isinstance(node, FileNode):
        return [node]
    children = node.any if isinstance(node, AnyNode) else node.all
    return [file for child in children for file in files_of(child)]


def judge(node: Node, unsat: Mapping[str, bool | None]) -> Answer:
    """The verdict of a point from those of a tool about its files.

    Args:
        node: the point's tree.
        unsat: by file name: True for UNSAT, False for SAT, None (or missing) for no answer.

    Returns:
        CERTIFIED or FALSIFIED as far as the tool is trusted, else UNKNOWN.
    """
    if isinstance(node, FileNode):
        found = unsat.get(node.file)
        if found is None or (not found and node.inputs != "ball"):
            return Answer.UNKNOWN
        return Answer.CERTIFIED if found else Answer.FALSIFIED
    children: Sequence[Node] = node.any if isinstance(node, AnyNode) else node.all
    decisive = Answer.CERTIFIED if isinstance(node, AnyNode) else Answer.FALSIFIED
    other = Answer.FALSIFIED if isinstance(node, AnyNode) else Answer.CERTIFIED
    found_all = [judge(child, unsat) for child in children]
    if decisive in found_all:
        return decisive
    return Answer.UNKNOWN if Answer.UNKNOWN in found_all else other
