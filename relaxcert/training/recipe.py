"""Recipes: everything that a training run depends on, as a TOML document that ships."""

from __future__ import annotations

import difflib
import math
import re
from collections.abc import Iterable, Mapping, Sequence
from importlib import resources
from pathlib import Path
from typing import Literal

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    ValidationError,
    field_validator,
    model_validator,
)
from torch import nn

from relaxcert.errors import DocumentError, suggestion
from relaxcert.nn.convolutional import conv_net, deep_conv_net
from relaxcert.nn.liresnet import liresnet
from relaxcert.nn.networks import dense
from relaxcert.spec.explain import FieldError, explain
from relaxcert.spec.toml import parse_toml, read_text
from relaxcert.training.schedules import (
    AfterHalf,
    Constant,
    Half,
    Linear,
    LogHalf,
    OneCycle,
    Schedule,
)

_NAME = re.compile(r"[a-z0-9]+(-[a-z0-9]+)*")
# A model file is named after its recipe and lies beside these.
_TAKEN = ("best", "checkpoint", "last")


_FIELDS_OF = {
    "dense": ("hidden", "activation", "mean", "std"),
    "liresnet": ("width", "depth", "features", "stride"),
}


class _Table(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)


class Optimisation(_Table):
    """How a network is trained (``[optimisation]``): Adam, its schedules, and the loss."""

    epochs: int = Field(default=40, ge=1)
    batch_size: int = Field(default=128, ge=1)
    learning_rate: Schedule = OneCycle(peak=5e-3)
    weight_decay: float = Field(default=0.0, ge=0)
    loss: Literal["cross-entropy", "trades", "certified-set"] = "cross-entropy"
    temperature: float = Field(default=1.0, gt=0)
    trades_weight: Schedule | None = None
    ranking_weight: float = Field(default=0.0, ge=0)
    """Of the cross-entropy beside loss = "certified-set"."""
    margin_scale: float = Field(default=1.0, gt=0)
    """Train for an eps so many times larger; certificates always use eps itself."""
    orthogonal: bool = False
    """Train all linear layers but the last as orthogonal ones, through the Cayley transform."""
    convolutions: Literal["free", "almost-orthogonal"] = "free"
    """Train the convolutions outside of residual blocks rescaled to a norm of at most 1 (AOL)."""
    last_layer: Literal["free", "normalised"] = "free"
    """Train the rows of the last layer with length 1."""
    augmentation: Literal["none", "patch-symmetries", "images", "images-unflipped"] = "none"
    precision: Literal["float32", "bf16"] = "float32"
    """Of the backbone while training; bounds, margins and loss stay in that of the weights."""
    accumulate: int = Field(default=1, ge=1)
    """Take each batch in so many parts: the same step in less memory."""
    compile: bool = False
    """Compile the loss with torch.compile."""


class Architecture(_Table):
    """A backbone (``[architecture]``): dense, one of the paper's two for images, or LiResNet."""

    kind: Literal["dense", "conv", "deep-conv", "liresnet"] = "dense"
    hidden: list[int] | None = Field(default=None, max_length=64)
    """Widths of the hidden layers (dense only)."""
    activation: Literal["minmax", "relu"] = "minmax"
    mean: float | list[float] | None = None
    """Subtracted from the input; a list is repeated over the features (dense only)."""
    std: float | None = Field(default=None, gt=0)
    width: int = Field(default=64, ge=2, le=4096, multiple_of=2)
    """Channels of the residual blocks (liresnet only)."""
    depth: int = Field(default=6, ge=1, le=256)
    """Number of residual blocks (liresnet only)."""
    features: int = Field(default=512, ge=2, le=65536, multiple_of=2)
    """Width of the dense layer after them (liresnet only)."""
    stride: int = Field(default=2, ge=1, le=64)
    """Of the first convolution (liresnet only)."""

    @model_validator(mode="after")
    def _of_one_kind(self) -> Architecture:
        if self.kind == "dense" and self.hidden is None:
            raise FieldError("hidden", "is missing: give the widths of the hidden layers, or [].")
        fields = type(self).model_fields
        own = _FIELDS_OF.get(self.kind, ())
        odd = [n for n, f in fields.items() if n not in own and getattr(self, n) != f.default]
        odd = [n for n in odd if n != "kind"]
        if odd:
            known = ", ".join(own) if own else "none: it is the paper's network as it stands"
            raise FieldError(
                odd[0], f"has no meaning for kind {self.kind!r} (its fields: {known}): remove it."
            )
        return self

    def build(self, shape: int | Sequence[int], num_classes: int) -> nn.Sequential:
        """The backbone with fresh weights, for inputs of one shape (or so many features)."""
        sizes = (shape,) if isinstance(shape, int) else tuple(shape)
        if self.kind == "conv":
            return conv_net(sizes, num_classes)
        if self.kind == "deep-conv":
            return deep_conv_net(sizes, num_classes)
        if self.kind == "liresnet":
            own = {name: getattr(self, name) for name in _FIELDS_OF["liresnet"]}
            return liresnet(sizes, num_classes, **own)
        return dense(
            math.prod(sizes),
            self.hidden or [],
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

    @field_validator("name")
    @classmethod
    def _usable_as_file_name(cls, name: str) -> str:
        if not _NAME.fullmatch(name) or len(name) > 100 or name in _TAKEN:
            raise ValueError(
                f"{name!r:.80} cannot name a model file: use lowercase letters, digits and dashes, "
                f"and none of {', '.join(_TAKEN)}."
            )
        return name


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
        return parse_recipe(read_text(name_or_path), origin=str(name_or_path))
    name, known = str(name_or_path), recipes()
    if name not in known:
        raise DocumentError(
            f"recipe {name!r} does not exist.{suggestion(name, known)} "
            f"Known recipes: {', '.join(known)}; or give a path to a .toml file."
        )
    file = resources.files("relaxcert.training").joinpath("recipes", f"{name}.toml")
    return parse_recipe(file.read_text(encoding="utf-8"), origin=name)


def parse_recipe(text: str, *, origin: str = "<text>") -> Recipe:
    """Read a recipe document; ``origin`` names it in errors.

    Raises:
        DocumentError: names file, field and remedy.
    """
    content = parse_toml(text, origin)
    try:
        return Recipe.model_validate(content)
    except ValidationError as error:
        raise explain(error, content, origin=origin, fields_of=_fields_of, hints={}) from error


def _fields_of(table: Mapping[str | int, object]) -> Iterable[str]:
    """The fields that a table may have, told by what it holds."""
    schedules = (Constant, Linear, Half, LogHalf, AfterHalf, OneCycle)
    for schedule in schedules:
        if table.get("kind") == schedule.model_fields["kind"].default:
            return schedule.model_fields
    models: tuple[type[BaseModel], ...] = (Recipe, Architecture, Optimisation)
    words = [word for word in table if isinstance(word, str)]

    def likeness(fields: Iterable[str]) -> int:
        return sum(len(difflib.get_close_matches(word, list(fields), n=1)) for word in words)

    return max((model.model_fields for model in models), key=likeness)
