"""The fields of verdict files, and of what attacks and cross-checks write beside them."""

from __future__ import annotations

import math
from typing import Any, ClassVar

from pydantic import BaseModel, ConfigDict, Field


class Record(BaseModel):
    """What every reader of verdict files may rely on; more is welcome."""

    model_config: ClassVar[ConfigDict] = ConfigDict(frozen=True, extra="ignore")


class Bound(Record):
    """One row of the table of bounds."""

    path: str
    kind: str
    norm: str
    bound: float
    method: str


class ClassRow(Record):
    """Figures of one class; NaN where it has no points."""

    name: str
    points: int
    vra: float
    rejection_rate: float
    clean_accuracy: float
    top1_accuracy: float


class Figures(Record):
    """Figures of all points."""

    vra: float
    clean_accuracy: float
    top1_accuracy: float


class Summary(Record):
    """``summary.json``. Files of earlier versions lack what has a default."""

    prop: dict[str, Any] = Field(alias="property")
    digest: str
    weights_sha256: str
    level: str
    points: int = Field(ge=0)
    certified: int = Field(ge=0)
    rejection_rate: float
    figures: Figures | None = None
    clean_accuracy_is: str = "clean accuracy"
    num_classes: int | None = None
    class_names: list[str] | None = None
    bounds: list[Bound] = []
    versions: dict[str, str] = {}
    by_class: list[ClassRow] | None = None
    constant_answers: dict[str, float] = {}
    command: str = ""
    written: str = ""
    input_shape: list[int] = []
    data: str = ""
    data_sha256: str = ""
    scale: float = 1.0
    model: str = ""
    model_sha256: str | None = None
    notes: dict[str, str] = {}
    computed_on: dict[str, Any] = {}
    recipe: str = ""
    seed: int | None = None
    seconds: float | None = None


class Point(Record):
    """A line of ``verdicts.jsonl``."""

    index: int
    prediction: int = Field(ge=0)
    certified: bool
    k: int = Field(ge=0)
    strictest_k: int = Field(ge=0)
    set: list[int]
    strictest_set: list[int] | None = None
    margin: float
    radius: float
    reason: str = ""
    engine: str | None = None
    label: int | None = Field(None, ge=0)
    label_rank: int | None = None
    counts: bool | None = None
    label_radius: float = math.nan


class Attacked(Record):
    """``attack.json``, as ``relaxcert attack`` writes it."""

    digest: str
    weights_sha256: str
    points: int
    certified: int
    broken: int
    open: int
    certified_and_broken: int
    vra: float | None = None
    vra_upper_bound: float | None = None


class CrossChecked(Record):
    """``crosscheck.json``, as ``relaxcert crosscheck`` writes it."""

    digest: str
    solver: str
    points: int
    head_certified: int
    both_certify: int
    violations: int
    faults: int
    rejected_but_holds: int
    rejected_and_fails: int
    unknown: int
    median_seconds: float | None = None
    at_radius: bool = False
    weights_sha256: str | None = None
