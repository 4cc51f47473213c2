"""Recipes: everything that a training run depends on, as a TOML document that ships."""

from __future__ import annotations

import tomllib
from importlib import resources
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError
from torch import nn

from relaxcert.errors import DocumentError, suggestion
from relaxcert.nn.networks import dense
from relaxcert.training.schedules import OneCycle, Schedule

_LIMIT = 2**20


class _Table(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Optimisation(_Table):
    """How a network is trained (``[optimisation]``): Adam, its schedules, and the loss."""

    epochs: int = Field(default=40, ge=1)
    batch_size: int = Field(default=128, ge=1)
    learning_rate: Schedule = OneCycle(peak=5e-3)
    weight_decay: float = Field(default=0.0, ge=0)
    loss: Literal["cross-entropy", "trades"] = "cross-entropy"
    temperature: float = Field(default=1.0, gt=0)
    trades_weight: Schedule | None = None
    orthogonal: bool = False
    """Train all linear layers but the last as orthogonal ones, through the Cayley transform."""
    augmentation: Literal["none", "patch-symmetries"] = "none"


class Architecture(_Table):
    """A dense backbone (``[architecture]``)."""

    hidden: list[int] = Field(min_length=0, max_length=64)
    activation: Literal["minmax", "relu"] = "minmax"
    mean: float | None = None
    std: float | None = Field(default=None, gt=0)

    def build(self, features: int, num_classes: int) -> nn.Sequential:
        """The backbone with fresh weights."""
        return dense(
            features,
            self.hidden,
            num_classes,
            activation=self.activation,
            mean=self.mean,
            std=self.std,
        )


class Recipe(_Table):
    """A recipe document."""

    recipe: Literal[1] = Field(description="version of the format")
    name: str
    title: str = ""
    source: str = ""
    data: str = Field(description="the data it is made for, e.g. 'landsat'")
    property: str = Field(description="a property of the catalogue, or a path")
    architecture: Architecture
    optimisation: Optimisation = Optimisation()


def recipes() -> list[str]:
    """The names of the recipes that ship."""
    folder = resources.files("relaxcert.training").joinpath("recipes")
    return sorted(f.name[:-5] for f in folder.iterdir() if f.name.endswith(".toml"))


def load_recipe(name_or_path: str | Path) -> Recipe:
    """Load a recipe by its name, or from a path that ends in .toml.

    Raises:
        DocumentError: no such recipe, or a document that is not well formed.
    """
    if str(name_or_path).endswith(".toml"):
        path = Path(name_or_path)
        if not path.is_file():
            raise DocumentError(f"{path}: there is no such file.")
        if path.stat().st_size > _LIMIT:
            raise DocumentError(f"{path}: larger than 1 MiB, so not a recipe.")
        return parse_recipe(path.read_bytes(), str(path))
    known = recipes()
    if name_or_path not in known:
        raise DocumentError(
            f"recipe {str(name_or_path)!r} does not exist.{suggestion(str(name_or_path), known)} "
            f"Known recipes: {', '.join(known)}; or give a path to a .toml file."
        )
    file = resources.files("relaxcert.training").joinpath("recipes", f"{name_or_path}.toml")
    return parse_recipe(file.read_bytes(), str(name_or_path))


def parse_recipe(text: bytes, origin: str) -> Recipe:
    """Read a recipe document; ``origin`` names it in errors.

    Raises:
        DocumentError: names file, field and remedy.
    """
    try:
        content: dict[str, Any] = tomllib.loads(text.decode("utf-8"))
        return Recipe.model_validate(content)
    except (UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise DocumentError(f"{origin} is not a TOML document: {error}.") from error
    except ValidationError as error:
        first = error.errors()[0]
        field = ".".join(map(str, first["loc"]))
        raise DocumentError(
            f"{origin}: field {field}: {first['msg']} (found {first['input']!r:.60}). "
            "See the recipes that ship for the form: relaxcert train --list."
        ) from error
