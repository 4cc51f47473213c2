"""Where training and test data come from, and the report on labelled parts after training."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from rich.console import Console

from relaxcert.cli.common import EMBEDDED, figure_cells, load_points, table
from relaxcert.data.images.parts import image_part, training_images
from relaxcert.data.images.sets import ImageSet
from relaxcert.data.landsat import Split
from relaxcert.errors import InvalidInput
from relaxcert.heads.certificates import Certificates
from relaxcert.heads.gloronet import GloRoNet
from relaxcert.metrics import clean_accuracy_name
from relaxcert.report.by_class import ClassFigures, constant_answers, figures_by_class
from relaxcert.report.verdicts import summary_of, write_verdicts
from relaxcert.training.evaluation import Figures, evaluate
from relaxcert.training.recipe import Recipe

# Reported on after training, where a source has them; never trained on.
TESTS = ("test", "uniform")


def sources_of(recipe: Recipe, data: str | None) -> tuple[str, dict[str, str]]:
    """The training data and the test parts that go with it, as texts for ``load_labelled``.

    A folder that ``relaxcert data`` wrote holds both; so does ``hcas``, which is made here.

    Raises:
        InvalidInput: no data, and the recipe's own does not ship.
    """
    if data is None:
        if recipe.data in EMBEDDED:
            return f"{recipe.data}:train", {}
        if recipe.data != "hcas":
            raise InvalidInput(
                f"recipe {recipe.name!r} is for {recipe.data!r}, which does not ship: give --data."
            )
        data = "hcas"
    images = image_part(data)
    if images is not None:
        return f"{images[0]}:{images[1]}", {}
    folder = Path(data)
    if folder.is_dir():
        found = {name: folder / f"{name}.npz" for name in TESTS}
        tests = {name: str(file) for name, file in found.items() if file.is_file()}
        return str(folder / "train.npz"), tests
    if data == "hcas":
        return "hcas:train", {name: f"hcas:{name}" for name in TESTS}
    return data, {}


def load_training(data: str) -> Split | ImageSet:
    """Labelled points to train on; more images than fit in memory stay on disk."""
    images = image_part(data)
    return load_labelled(data, "--data") if images is None else training_images(*images)


def load_labelled(data: str, option: str) -> Split:
    """Points with labels.

    Raises:
        InvalidInput: there are no labels.
    """
    inputs, labels = load_points(data, None)
    if labels is None:
        raise InvalidInput(f"{option} {data} has no labels: training needs x and y in a .npz.")
    return Split(inputs.float(), labels)


@dataclass(frozen=True)
class JudgedPart:
    """A part of the data, certified: its figures, its classes, and what constants would score."""

    figures: Figures
    certificates: Certificates
    by_class: list[ClassFigures]
    constant: dict[str, float]

    def as_dict(self) -> dict[str, Any]:
        """Plain data for JSON."""
        return {
            "figures": self.figures.as_dict(),
            "by_class": [asdict(line) for line in self.by_class],
            "vra_of_constant_answers": self.constant,
        }


def judge_part(net: GloRoNet, split: Split, class_names: Sequence[str] | None) -> JudgedPart:
    """Certify a part at level R."""
    device = next(net.backbone.parameters()).device
    labels = split.labels.to(device)
    figures, certificates = evaluate(net, split.inputs.to(device), labels)
    constant = constant_answers(split.labels, net.prop, net.num_classes)
    by_class = figures_by_class(certificates, labels, class_names)
    return JudgedPart(figures, certificates, by_class, constant)


def write_part(
    folder: Path,
    net: GloRoNet,
    split: Split,
    part: JudgedPart,
    class_names: Sequence[str] | None,
    **more: object,
) -> None:
    """The verdict files of a part; ``more`` goes into its summary."""
    summary = summary_of(
        part.certificates,
        part.figures,
        bounds=net.lipschitz.table(),
        class_names=class_names,
        labels=split.labels,
        **more,
    )
    write_verdicts(folder, part.certificates, split.labels, summary)


def show_parts(screen: Console, net: GloRoNet, parts: Mapping[str, JudgedPart]) -> None:
    """Figures of each part and class, beside what a constant answer would score."""
    clean = clean_accuracy_name(net.prop)
    columns = ("data", "points", "VRA", "rejection rate", clean, "top-1 accuracy")
    rows: list[list[str]] = []
    for name, part in parts.items():
        rows.append([name, str(part.figures.points), *figure_cells(part.figures)])
        for answer, vra in part.constant.items():
            rows.append([f"  constant answer, {answer}", "", f"{vra:.3f}", "0.000", "", ""])
    screen.print(table("Level R", columns, rows))
    for name, part in parts.items():
        screen.print(table(f"{name}, by class", columns, [_cells(line) for line in part.by_class]))


def _cells(line: ClassFigures) -> list[str]:
    shares = (line.vra, line.rejection_rate, line.clean_accuracy, line.top1_accuracy)
    texts = ["-" if math.isnan(share) else f"{share:.3f}" for share in shares]
    return [line.name, str(line.points), *texts]
