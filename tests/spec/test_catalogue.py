from fractions import Fraction
from pathlib import Path

import jsonschema
import pytest

from relaxcert.errors import DocumentError
from relaxcert.spec import (
    Affinity,
    AffinitySets,
    Local,
    RelaxedTopK,
    Targeted,
    canonical_json,
    from_canonical,
    json_schema,
    load_document,
    load_property,
    parse_document,
)
from relaxcert.spec import catalogue as catalogue_module
from relaxcert.spec.catalogue import catalogue

NAMES = catalogue()

# Fine label -> superclass, both by number, as the CIFAR-100 files have it.
# fmt: off
FINE_TO_COARSE = [
    4, 1, 14, 8, 0, 6, 7, 7, 18, 3, 3, 14, 9, 18, 7, 11, 3, 9, 7, 11, 6, 11, 5, 10, 7, 6,
    13, 15, 3, 15, 0, 11, 1, 10, 12, 14, 16, 9, 11, 5, 5, 19, 8, 8, 15, 13, 14, 17, 18, 10,
    16, 4, 17, 4, 2, 0, 17, 4, 18, 17, 10, 3, 2, 12, 12, 16, 12, 1, 9, 19, 2, 10, 0, 1, 16,
    12, 9, 13, 15, 13, 16, 19, 2, 4, 6, 19, 5, 5, 8, 19, 18, 1, 2, 15, 6, 0, 17, 8, 14, 13,
]
# fmt: on


def test_the_list():
    assert sorted(NAMES) == NAMES
    assert set(NAMES) >= {
        "acasxu/adjacent-advisories",
        "acasxu/targeted-safe",
        "cifar100/rt5",
        "cifar100/superclasses",
        "eurosat/highway-river",
        "eurosat/highway-river-agriculture",
        "eurosat/rt3",
        "landsat/local",
        "landsat/rt3",
        "landsat/soils",
        "letter/shapes",
        "tiny-imagenet/rt5",
    }


@pytest.mark.parametrize("name", NAMES)
def test_each_entry(name):
    document = load_document(name)
    assert document.name == name
    assert document.title
    assert document.source
    if not name.startswith("tiny-imagenet/"):
        assert document.class_names is not None
    prop = document.to_property()
    assert load_property(name) == prop
    prop.check(document.num_classes)
    assert parse_document(document.to_toml()) == document
    assert from_canonical(canonical_json(prop)) == prop
    plain = document.model_dump(mode="json", exclude_defaults=True)
    jsonschema.Draft202012Validator(json_schema()).validate(plain)


EPS = {
    "acasxu": Fraction(1, 100),
    "cifar100": Fraction(36, 255),
    "eurosat": Fraction(36, 255),
    "tiny-imagenet": Fraction(36, 255),
    "landsat": Fraction(3, 100),
    "letter": Fraction(3, 100),
    "fashion-mnist": Fraction(1, 2),
}
SIZES = {
    "acasxu": 5,
    "cifar100": 100,
    "eurosat": 10,
    "tiny-imagenet": 200,
    "landsat": 6,
    "letter": 26,
    "fashion-mnist": 10,
}


@pytest.mark.parametrize("name", NAMES)
def test_radius_norm_and_size(name):
    document = load_document(name)
    family = name.split("/")[0]
    for ball in document.to_property().balls:
        assert ball.eps == EPS[family]
        assert ball.norm == "l2"
    assert document.num_classes == SIZES[family]
    assert document.best == ("min" if family == "acasxu" else "max")


def test_relaxed_and_local_entries():
    for name in ("cifar100", "eurosat", "landsat", "tiny-imagenet"):
        assert load_property(f"{name}/local") == Local(eps=EPS[name])
    assert load_property("cifar100/rt5") == RelaxedTopK(5, eps="36/255")
    assert load_property("tiny-imagenet/rt5") == RelaxedTopK(5, eps="36/255")
    assert load_property("eurosat/rt3") == RelaxedTopK(3, eps="36/255")
    assert load_property("landsat/rt3") == RelaxedTopK(3, eps="0.03")


def test_acasxu_turn_order():
    order = [3, 1, 0, 2, 4]
    pairs = AffinitySets.adjacent(order)
    assert pairs.sets == ((0, 1), (0, 2), (1, 3), (2, 4))
    assert load_property("acasxu/adjacent-advisories") == Affinity(pairs, eps="0.01")
    assert load_property("acasxu/targeted-safe") == Targeted.neighbours(order, eps="0.01")
    for name in ("acasxu/adjacent-advisories", "acasxu/targeted-safe"):
        names = load_document(name).class_names
        assert names == (
            "clear of conflict",
            "weak left",
            "weak right",
            "strong left",
            "strong right",
        )


def test_cifar100_superclasses():
    document = load_document("cifar100/superclasses")
    prop = load_property("cifar100/superclasses")
    assert prop.sets == AffinitySets.from_superclasses(FINE_TO_COARSE)
    assert prop.sets.is_partition()
    assert [len(members) for members in prop.sets.sets] == [5] * 20
    names = document.class_names
    assert names is not None
    assert list(names) == sorted(names)
    # The groups are named in the order of the coarse labels, and each holds its own fine labels.
    assert len(document.groups) == 20
    for number, members in enumerate(document.groups.values()):
        assert [FINE_TO_COARSE[names.index(fine)] for fine in members] == [number] * 5
    assert document.groups["people"] == ("baby", "boy", "girl", "man", "woman")
    assert document.groups["trees"][0] == "maple_tree"
    assert load_document("cifar100/rt5").class_names == names


def test_eurosat_sets():
    names = load_document("eurosat/highway-river").class_names
    assert names is not None
    assert list(names) == sorted(names)
    highway, river = names.index("Highway"), names.index("River")
    expected = [sorted({label, highway, river}) for label in range(10)]
    first = load_property("eurosat/highway-river").sets
    assert first == AffinitySets(expected, 10)
    crops = [names.index("PermanentCrop"), names.index("AnnualCrop")]
    second = load_property("eurosat/highway-river-agriculture").sets
    assert second == AffinitySets([*expected, crops], 10)
    assert not second.admits([*crops, highway])
    assert not first.uncovered
    assert load_document("eurosat/highway-river-agriculture").class_names == names


def test_landsat_and_letter_sets():
    soils = load_property("landsat/soils").sets
    assert soils.sets == ((0,), (1,), (2, 3, 5), (4,))
    assert [soils.name(label) for label in (2, 3, 5)] == [
        "grey soil",
        "damp grey soil",
        "very damp grey soil",
    ]
    shapes = load_property("letter/shapes").sets
    assert "".join(shapes.class_names) == "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
    assert shapes.is_partition()
    assert "relaxcert's own" in load_document("letter/shapes").notes


def test_tiny_imagenet_says_its_order():
    document = load_document("tiny-imagenet/rt5")
    assert document.class_names is None
    assert "sorted wnids" in document.notes


@pytest.mark.parametrize(
    "name",
    ["landsat/soil", "../../x", "/etc/passwd", "", "landsat", "landsat/../landsat/soils", "a\0b"],
)
def test_unknown_names(name):
    with pytest.raises(
        DocumentError, match=r"not in the catalogue.*path to a \.toml file"
    ) as caught:
        load_document(name)
    if name == "landsat/soil":
        assert "Did you mean 'landsat/soils'" in str(caught.value)


def test_a_path_of_ones_own(tmp_path):
    own = tmp_path / "own.toml"
    own.write_text(load_document("landsat/soils").to_toml(), "utf-8")
    for path in (own, str(own)):
        assert load_property(path) == load_property("landsat/soils")
    bare = tmp_path / "bare"
    bare.write_bytes(own.read_bytes())
    assert load_property(Path(bare)) == load_property("landsat/soils")
    with pytest.raises(DocumentError, match=r"missing\.toml: no such file"):
        load_document(tmp_path / "missing.toml")


def test_a_wheel_has_the_catalogue_inside(tmp_path, monkeypatch):
    (tmp_path / "properties" / "own").mkdir(parents=True)
    text = load_document("landsat/local").to_toml().replace("landsat/local", "own/local")
    (tmp_path / "properties" / "own" / "local.toml").write_text(text, "utf-8")
    monkeypatch.setattr(catalogue_module, "files", lambda _package: tmp_path)
    assert catalogue() == ["own/local"]
    assert load_property("own/local") == Local(eps="0.03")
    monkeypatch.setattr(catalogue_module, "files", lambda _package: tmp_path / "nowhere")
    monkeypatch.setattr(catalogue_module, "__file__", str(tmp_path / "a" / "b" / "c.py"))
    (tmp_path / "properties").rename(tmp_path / "gone")
    with pytest.raises(DocumentError, match="catalogue of properties is missing"):
        catalogue()
