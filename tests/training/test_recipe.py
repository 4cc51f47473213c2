"""Recipes: those that ship, the round trip, and every mistake as one clear sentence."""

from __future__ import annotations

import pytest
import tomli_w
import torch
from hypothesis import given
from hypothesis import strategies as st

from relaxcert.errors import DocumentError
from relaxcert.spec.catalogue import load_document
from relaxcert.training import Recipe, load_recipe, recipes
from relaxcert.training.recipe import parse_recipe

GOOD = """\
recipe = 1
name = "mine"
data = "landsat"
property = "landsat/rt3"

[architecture]
hidden = [4]

[optimisation]
epochs = 2
learning_rate = { kind = "constant", value = 1e-3 }
"""


SHAPES = {
    "cifar100": (3, 32, 32),
    "eurosat": (3, 64, 64),
    "fashion-mnist": (1, 28, 28),
    "tiny-imagenet": (3, 64, 64),
}


@pytest.mark.parametrize("name", recipes())
def test_every_recipe_that_ships_loads_builds_and_names_a_property_that_ships(name):
    recipe = load_recipe(name)
    assert recipe.name == name
    assert recipe.source
    assert recipe.title
    classes = load_document(recipe.property).num_classes
    # Shapes alone: orthogonal initial weights of the large networks take seconds each.
    fake = "meta" if recipe.data in SHAPES else "cpu"
    with torch.device(fake):
        backbone = recipe.architecture.build(SHAPES.get(recipe.data, (36,)), classes)
    load_document(recipe.property).to_property().check(classes)
    assert backbone[-1].out_features == classes


def test_the_demos_three_recipes_ship():
    assert {"landsat-local", "landsat-rt3", "landsat-soils"} <= set(recipes())


def as_toml(recipe: Recipe) -> str:
    return tomli_w.dumps(recipe.model_dump(mode="json", exclude_none=True))


@pytest.mark.parametrize("name", recipes())
def test_a_recipe_that_ships_survives_the_round_trip(name):
    recipe = load_recipe(name)
    assert parse_recipe(as_toml(recipe)) == recipe


schedules = st.one_of(
    st.builds(lambda v: {"kind": "constant", "value": v}, st.floats(0, 1)),
    st.builds(
        lambda kind, a, b: {"kind": kind, "start": a, "end": b},
        st.sampled_from(["linear", "half", "log-half", "after-half"]),
        st.floats(1e-6, 5),
        st.floats(1e-6, 5),
    ),
    st.builds(
        lambda p, w: {"kind": "one-cycle", "peak": p, "warm_up": w},
        st.floats(1e-6, 1),
        st.floats(0.01, 0.99),
    ),
)
documents = st.fixed_dictionaries(
    {
        "recipe": st.just(1),
        "name": st.from_regex(r"[a-z0-9]{1,4}(-[a-z]{1,3})?", fullmatch=True),
        "title": st.text(st.characters(exclude_categories=["Cs"]), max_size=8),
        "data": st.just("landsat"),
        "property": st.just("landsat/rt3"),
        "architecture": st.fixed_dictionaries(
            {"hidden": st.lists(st.integers(1, 99), max_size=4)},
            optional={"activation": st.sampled_from(["minmax", "relu"]), "std": st.floats(0.1, 2)},
        ),
        "optimisation": st.fixed_dictionaries(
            {"epochs": st.integers(1, 999), "learning_rate": schedules},
            optional={
                "trades_weight": schedules,
                "loss": st.sampled_from(["cross-entropy", "trades"]),
                "temperature": st.floats(0.01, 9),
                "orthogonal": st.booleans(),
                "batch_size": st.integers(1, 999),
            },
        ),
    }
)


@given(documents)
def test_any_recipe_survives_the_round_trip(data):
    recipe = parse_recipe(tomli_w.dumps(data))
    assert parse_recipe(as_toml(recipe)) == recipe


MISTAKES = [
    ("epochs = 2", 'epochs = "2"', "optimisation.epochs"),
    ("epochs = 2", "epochs = true", "optimisation.epochs"),
    ("epochs = 2", "epochs = 2.0", "optimisation.epochs"),
    ("epochs = 2", "epochs = 0", "optimisation.epochs"),
    ("epochs = 2", "batch_size = 0", "optimisation.batch_size"),
    ("epochs = 2", "epohcs = 2", "optimisation.epohcs.*Did you mean 'epochs'"),
    ("epochs = 2", 'loss = "hinge"', "optimisation.loss"),
    ("epochs = 2", "temperature = 0", "optimisation.temperature"),
    ("epochs = 2", "temperature = inf", "optimisation.temperature"),
    ("epochs = 2", "weight_decay = nan", "optimisation.weight_decay"),
    ("epochs = 2", "weight_decay = -1", "optimisation.weight_decay"),
    ("epochs = 2", "margin_scale = inf", "optimisation.margin_scale"),
    ("epochs = 2", 'orthogonal = "yes"', "optimisation.orthogonal"),
    ("epochs = 2", "orthogonal = 1", "optimisation.orthogonal"),
    ("epochs = 2", 'augmentation = "flip"', "optimisation.augmentation"),
    ('kind = "constant", value = 1e-3', 'kind = "cosine"', "learning_rate.kind='cosine'.*one-cy"),
    ("value = 1e-3", "value = inf", "learning_rate.value"),
    ("value = 1e-3", 'value = "1e-3"', "learning_rate.value"),
    ("value = 1e-3", "valeu = 1e-3", "learning_rate.valeu.*Did you mean 'value'"),
    (", value = 1e-3", "", "learning_rate.value is missing"),
    ('kind = "constant", ', "", "learning_rate.kind is missing"),
    ('{ kind = "constant", value = 1e-3 }', "3", "optimisation.learning_rate"),
    ("hidden = [4]", "", r"architecture\.hidden: is missing"),
    ("hidden = [4]", 'kind = "conv"\nhidden = [4]', r"architecture\.hidden: has no meaning"),
    ("hidden = [4]", 'kind = "cnn"', r"architecture\.kind"),
    ("hidden = [4]", "hidden = [4]\ndepth = 3", r"architecture\.depth: has no meaning"),
    ("hidden = [4]", 'kind = "liresnet"\nstd = 0.5', r"architecture\.std: .*width, depth"),
    ("hidden = [4]", 'kind = "liresnet"\nwidth = 3', r"architecture\.width"),
    ("epochs = 2", 'convolutions = "aol"', "optimisation.convolutions"),
    ("epochs = 2", 'last_layer = "unit"', "optimisation.last_layer"),
    ("hidden = [4]", 'hidden = ["4"]', r"architecture.hidden\[0\]"),
    ("hidden = [4]", "hiden = [4]", "architecture.hiden.*Did you mean 'hidden'"),
    ("hidden = [4]", 'hidden = [4]\nactivation = "gelu"', "architecture.activation"),
    ("hidden = [4]", "hidden = [4]\nstd = 0", "architecture.std"),
    ("[architecture]\nhidden = [4]\n", "", "architecture is missing"),
    ("recipe = 1", "recipe = 2", "recipe=2"),
    ("recipe = 1\n", "", "recipe is missing"),
    ('property = "landsat/rt3"\n', "", "property is missing"),
    ('data = "landsat"', "data = 3", "data=3"),
    ('data = "landsat"', 'data = "landsat"\nseed = 3', "seed=3 is not a known field"),
    ('name = "mine"\n', "", "name is missing"),
    ('name = "mine"', 'name = ""', "name: ''"),
    ('name = "mine"', 'name = "../mine"', "name: '../mine'"),
    ('name = "mine"', 'name = "checkpoint"', "name: 'checkpoint'"),
    ('name = "mine"', 'name = "best"', "name: 'best'"),
    ("recipe = 1", "recipe = ", "not valid TOML"),
]


@pytest.mark.parametrize(("old", "new", "said"), MISTAKES)
def test_each_mistake_is_one_sentence_that_names_file_and_field(tmp_path, old, new, said):
    assert GOOD.count(old) == 1
    path = tmp_path / "mine.toml"
    path.write_text(GOOD.replace(old, new), encoding="utf-8")
    with pytest.raises(DocumentError, match=said) as caught:
        load_recipe(path)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_the_untouched_document_is_fine(tmp_path):
    path = tmp_path / "mine.toml"
    path.write_text(GOOD, encoding="utf-8")
    assert load_recipe(path) == load_recipe(str(path)) == parse_recipe(GOOD)


def test_an_unknown_schedules_field_lists_the_fields_of_that_schedule():
    with pytest.raises(DocumentError, match=r"Fields here: kind, value\."):
        parse_recipe(GOOD.replace("value = 1e-3", "value = 1e-3, valuee = 2"))


def test_an_unknown_name_is_answered_with_the_nearest():
    with pytest.raises(DocumentError, match="Did you mean 'landsat-rt3'"):
        load_recipe("landsat-rt33")


@pytest.mark.parametrize("name", ["../recipes/landsat-rt3", "", "landsat-rt3/", "."])
def test_a_name_never_reaches_outside_the_folder_of_recipes(name):
    with pytest.raises(DocumentError, match="does not exist"):
        load_recipe(name)


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(DocumentError, match=r"absent\.toml: no such file"):
        load_recipe(tmp_path / "absent.toml")


@pytest.mark.parametrize(
    "content", [b"\xff\xfe\x00", b"a = 1\x00", b"[" * 5000, b"x = " + b"[" * 900 + b"]" * 900]
)
def test_what_is_not_toml_is_a_document_error(tmp_path, content):
    path = tmp_path / "junk.toml"
    path.write_bytes(content)
    with pytest.raises(DocumentError, match=r"junk\.toml"):
        load_recipe(path)
