import json
import tomllib

import jsonschema
import pydantic
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from relaxcert.errors import DocumentError, InvalidProperty, UncoveredClassWarning
from relaxcert.spec import (
    Affinity,
    AffinitySets,
    Local,
    PropertyDocument,
    Targeted,
    TopK,
    canonical_json,
    document_of,
    from_canonical,
    json_schema,
    parse_document,
)
from tests.strategies import class_counts, class_names, document_data, eps_likes, properties

CHECKED = settings(deadline=None, max_examples=60)
SCHEMA = jsonschema.Draft202012Validator(json_schema())


GOOD = """relaxcert = 1
name = "a/b"
source = "nowhere"
num_classes = 3
class_names = ["cat", "dog", "car"]

[groups]
pets = ["cat", "dog"]

[property]
kind = "affinity"
sets = ["pets", ["car"]]
eps = "0.03"
"""

NESTED = """relaxcert = 1
name = "a/b"
source = "nowhere"
num_classes = 3

[property]
kind = "any"

[[property.parts]]
kind = "local"
eps = "1/3"

[[property.parts]]
kind = "all"

[[property.parts.parts]]
kind = "top-k"
k = 2
eps = "0.03"

[[property.parts.parts]]
kind = "targeted"
eps = "0.03"
allowed = {0 = [0], 1 = [1], 2 = [2, 1]}
"""


# Round trips.


@given(st.data(), class_counts)
@CHECKED
def test_property_to_toml_and_back(data, count):
    prop = data.draw(properties(count))
    names = data.draw(st.none() | class_names(count))
    document = document_of(
        prop, name="a/b", source="here", num_classes=count, class_names=names, best="min"
    )
    again = parse_document(document.to_toml())
    assert again == document
    assert again.to_property() == prop
    assert again.num_classes == count
    assert again.class_names == (None if names is None else tuple(names))


@given(document_data())
@CHECKED
def test_document_to_toml_and_back(data):
    document = PropertyDocument.model_validate(data)
    again = parse_document(document.to_toml())
    assert again == document
    prop = document.to_property()
    assert again.to_property() == prop
    assert from_canonical(canonical_json(prop)) == prop
    SCHEMA.validate(json.loads(document.model_dump_json(exclude_defaults=True)))
    names = document.class_names
    twin = document_of(
        prop, name="twin", source="here", num_classes=document.num_classes, class_names=names
    )
    assert twin.to_property() == prop


@given(eps_likes)
@CHECKED
def test_every_radius_survives(eps):
    prop = Local(eps=eps)
    document = document_of(prop, name="a", source="b", num_classes=2)
    assert parse_document(document.to_toml()).to_property() == prop
    assert from_canonical(canonical_json(prop)) == prop


def test_names_come_from_the_property_or_the_caller():
    sets = AffinitySets([["a", "b"], ["c"]], class_names=["a", "b", "c"])
    prop = Local(eps=1) & Affinity(sets, eps=1)
    document = document_of(prop, name="x", source="y", title="T", notes="N")
    assert document.class_names == ("a", "b", "c")
    assert document.to_property().parts[1].sets.class_names == ("a", "b", "c")
    assert "sets = [" in document.to_toml()
    other = document_of(prop, name="x", source="y", class_names=["p", "q", "r"])
    assert other.class_names == ("p", "q", "r")
    assert document_of(Local(eps=1), name="x", source="y", class_names="pq").num_classes == 2


def test_groups_and_spellings():
    text = GOOD.replace('sets = ["pets", ["car"]]', 'sets = ["pets"]\nsingletons = true')
    assert parse_document(text).to_property() == parse_document(GOOD).to_property()
    numbers = GOOD.replace('"pets", ["car"]', "[1, 0], [2]").replace(
        '"cat", "dog"]\n\n', "0, 1]\n\n"
    )
    assert parse_document(numbers).to_property() == parse_document(GOOD).to_property()
    within = GOOD.replace('"affinity"', '"targeted"').replace("sets =", "within =")
    assert parse_document(within).to_property() == Targeted([[0, 1], [1, 0], [2]], eps="0.03")


def test_a_class_left_out_is_a_warning():
    with pytest.warns(UncoveredClassWarning, match="car"):
        document = parse_document(GOOD.replace(', ["car"]', ""))
    assert document.to_property().sets.uncovered == (2,)


def test_documents_are_frozen():
    document = parse_document(GOOD)
    with pytest.raises(pydantic.ValidationError):
        document.name = "other"


def test_the_good_ones_are_good():
    assert parse_document(GOOD).to_property() == Affinity(
        AffinitySets([[0, 1], [2]], 3), eps="0.03"
    )
    inner = TopK(2, eps="0.03") & Targeted([[0], [1], [2, 1]], eps="0.03")
    assert parse_document(NESTED).to_property() == Local(eps="1/3") | inner
    assert parse_document(GOOD.replace("\n", "\r\n")) == parse_document(GOOD)


# Schema.


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ('eps = "0.03"', "eps = 0.03"),
        ('eps = "0.03"', 'epss = "0.03"'),
        ('kind = "affinity"', 'kind = "afinity"'),
        ("num_classes = 3", 'num_classes = "3"'),
        ('name = "a/b"', 'name = "A"'),
        ("relaxcert = 1", "relaxcert = 2"),
    ],
)
def test_schema_refuses_what_the_reader_refuses(old, new):
    SCHEMA.validate(tomllib.loads(GOOD))
    SCHEMA.validate(tomllib.loads(NESTED))
    assert not SCHEMA.is_valid(tomllib.loads(GOOD.replace(old, new)))


def test_schema_is_a_schema_with_descriptions():
    schema = json_schema()
    jsonschema.Draft202012Validator.check_schema(schema)
    kinds = schema["properties"]["property"]["discriminator"]["mapping"]
    assert list(kinds) == ["affinity", "all", "any", "local", "relaxed-top-k", "targeted", "top-k"]
    assert all("description" in table for table in schema["$defs"].values())
    assert all(
        "description" in field or "$ref" in field or "discriminator" in field
        for name, field in schema["properties"].items()
    )


def test_direct_construction_is_validated():
    with pytest.raises(pydantic.ValidationError, match="greater than 0"):
        PropertyDocument.model_validate(
            {
                "relaxcert": 1,
                "name": "a",
                "source": "b",
                "num_classes": 3,
                "property": {"kind": "local", "eps": "0"},
            }
        )
    assert issubclass(DocumentError, ValueError)
    assert not issubclass(DocumentError, InvalidProperty)
