"""Every mistake in a document is exactly one DocumentError, naming file, field and remedy."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from relaxcert.errors import DocumentError
from relaxcert.spec import (
    Local,
    Targeted,
    TopK,
    document_of,
    from_canonical,
    parse_document,
    read_document,
)
from tests.spec.test_documents import GOOD, NESTED

CHECKED = settings(deadline=None, max_examples=60)
EPS = 'eps = "0.03"'
MISTAKES = [
    (EPS, "eps = 0.03", "property.eps", 'write eps = "0.03" in quotes'),
    (EPS, "eps = 1", "property.eps", 'write eps = "1" in quotes'),
    (EPS, "eps = true", "property.eps", 'write eps = "0.03" in quotes'),
    (EPS, "eps = nan", "property.eps", 'write eps = "0.03" in quotes'),
    (EPS, 'eps = ["0.03"]', "property.eps", 'such as eps = "0.03"'),
    (EPS, 'eps = "0"', "property.eps", "give a radius such as '0.03'"),
    (EPS, 'eps = "-1"', "property.eps", "write a positive decimal"),
    (EPS, 'eps = "small"', "property.eps", "write a positive decimal"),
    (EPS, "", "property.eps", 'such as eps = "0.03"'),
    (EPS, 'epss = "0.03"', "property.epss", "Did you mean 'eps'"),
    (EPS, EPS + '\nnorm = "l3"', "property.norm", 'norm = "l2"'),
    (EPS, EPS + '\nquantifier = "some"', "property.quantifier", 'quantifier = "uniform"'),
    (EPS, EPS + "\nwidth = 3", "property", "remove width"),
    (EPS, EPS + "\nsingletons = 1", "property.singletons", "singletons = true or false"),
    (EPS, EPS + "\nadjacent = [0, 1, 2]", "property", "exactly one of sets, adjacent"),
    ('kind = "affinity"', "", "property.kind", 'kind = "local"'),
    ('kind = "affinity"', 'kind = "afinity"', "property.kind", "Did you mean 'affinity'"),
    ('kind = "affinity"', "kind = 3", "property.kind", "Known kinds"),
    ('"pets", ', '"petz", ', "property.sets[0]", "Did you mean 'pets'"),
    ('["car"]]', '["cra"]]', "property.sets[1]", "Did you mean"),
    ('["car"]]', "[7]]", "property.sets[1]", "indices go from 0 to 2"),
    ('["car"]]', "[1.5]]", "property.sets[1][0]", "must be an index"),
    ('["car"]]', "[true]]", "property.sets[1][0]", "must be an index"),
    ('["car"]]', "true]", "property.sets[1]", "should be a list"),
    ('["car"]]', "[]]", "property.sets[1]", "remove it or name its classes"),
    ('["car"]]', '["car", "dog", "cat"]]', "property.sets[1]", "leave at least one class out"),
    ('["pets", ["car"]]', "[]", "property", "exactly one of sets, adjacent"),
    ('sets = ["pets", ["car"]]', "adjacent = [0, 1]", "property.adjacent", "exactly once"),
    ('sets = ["pets", ["car"]]', "adjacent = [0, 1, 2]\nwidth = 5", "property.width", "width=5"),
    ("num_classes = 3", "", "num_classes", "such as num_classes = 6"),
    ("num_classes = 3", 'num_classes = "3"', "num_classes", "such as num_classes = 6"),
    ("num_classes = 3", "num_classes = 3.0", "num_classes", "such as num_classes = 6"),
    ("num_classes = 3", "num_classes = true", "num_classes", "such as num_classes = 6"),
    ("num_classes = 3", "num_classes = 1", "num_classes", "such as num_classes = 6"),
    ("num_classes = 3", "num_classes = 0x" + "f" * 5000, "num_classes", "such as num_classes = 6"),
    ("num_classes = 3", "num_classes = 4", "class_names", "they must agree"),
    ('"dog", "car"]', '"dog", "dog"]', "class_names", "must not repeat a name"),
    ('"dog", "car"]', '"dog", 3]', "class_names[2]", 'class_names = ["cat", "dog"]'),
    ('"dog", "car"]', '"dog", " "]', "class_names[2]", 'class_names = ["cat", "dog"]'),
    ('pets = ["cat", "dog"]', 'pets = ["cat", "dgo"]', "groups.pets", "Did you mean 'dog'"),
    ('pets = ["cat", "dog"]', "pets = []", "groups.pets", "at least one class"),
    ('pets = ["cat", "dog"]', 'pets = ["cat", 0]', "groups.pets", "none twice"),
    ("relaxcert = 1", "", "relaxcert", "relaxcert = 1"),
    ("relaxcert = 1", "relaxcert = 2", "relaxcert", "relaxcert = 1"),
    ('name = "a/b"', 'name = "../b"', "name", 'name = "landsat/soils"'),
    ('name = "a/b"', 'name = "A"', "name", 'name = "landsat/soils"'),
    ('source = "nowhere"', "", "source", "where the property is from"),
    ('source = "nowhere"', 'source = ""', "source", "where the property is from"),
    ('source = "nowhere"', "source = 2024-01-01", "source", "where the property is from"),
    ('source = "nowhere"', 'source = "x"\nbest = "most"', "best", 'best = "max"'),
    ("[property]", "[proprety]", "proprety", "Did you mean 'property'"),
    ("[groups]", "[groupz]", "groupz", "Did you mean 'groups'"),
    ("[property]", "[property", "not valid TOML", "correct the text"),
    ("[groups]", "x = " + "[" * 5000 + "\n[groups]", "nested", "fewer levels"),
    ("[groups]", "x." + "a." * 80 + "b = 1\n[groups]", "nested", "fewer levels"),
    ("num_classes = 3", "num_classes = " + "9" * 5000, "not valid TOML", "correct the text"),
]
NESTED_MISTAKES = [
    ("k = 2", "k = 3", "property.parts[1].parts[0].k", "use k <= 2"),
    ("k = 2", "k = 0", "property.parts[1].parts[0].k", "such as k = 3"),
    ("k = 2", "k = true", "property.parts[1].parts[0].k", "such as k = 3"),
    ("k = 2", "kk = 2", "property.parts[1].parts[0].kk", "Did you mean 'k'"),
    ("1 = [1]", "1 = [0]", "property.parts[1].parts[1].allowed", "must hold 1 itself"),
    ("1 = [1]", "x = [1]", "property.parts[1].parts[1].allowed", "'x'"),
    ("1 = [1]", "7 = [1]", "property.parts[1].parts[1].allowed", "indices go from 0 to 2"),
    ("1 = [1]", "1 = [1, 8]", "property.parts[1].parts[1].allowed.1", "indices go from 0 to 2"),
    ("1 = [1]", "1 = [0, 1, 2]", "property.parts[1].parts[1].allowed", "holds all 3 classes"),
    ("1 = [1], ", "", "property.parts[1].parts[1].allowed", "class '1' has no entry: add it"),
    ("1 = [1]", "1 = [1], 01 = [1]", "property.parts[1].parts[1].allowed", "keep one"),
    ('"1/3"', '"1/0"', "property.parts[0].eps", "write a positive decimal"),
    ('kind = "all"', "", "property.parts[1].kind", 'kind = "local"'),
    (
        "allowed = {0 = [0], 1 = [1], 2 = [2, 1]}",
        "neighbours = [0, 1, 2]",
        "property.parts[1].parts[1].neighbours",
        "holds all 3 classes",
    ),
    (
        "allowed = {0 = [0], 1 = [1], 2 = [2, 1]}",
        "within = [[0, 1], [1, 2]]",
        "property.parts[1].parts[1].within",
        "holds all 3 classes",
    ),
]


@pytest.mark.parametrize(
    ("good", "old", "new", "field", "remedy"),
    [
        pytest.param(text, *row, id=f"{place}-{row[2]}")
        for text, rows in ((GOOD, MISTAKES), (NESTED, NESTED_MISTAKES))
        for place, row in enumerate(rows)
    ],
)
def test_a_mistake_is_one_clear_error(tmp_path, good, old, new, field, remedy):
    assert good.count(old) == 1 or old in ("[property]", EPS), old
    at = good.rindex(old) if old == EPS else good.index(old)
    path = tmp_path / "bad.toml"
    path.write_text(good[:at] + new + good[at + len(old) :], "utf-8")
    with pytest.raises(DocumentError) as caught:
        read_document(path)
    message = str(caught.value)
    assert message.startswith(f"{path}: {field}")
    assert remedy in message
    assert "\n" not in message
    assert len(message) < 500


def test_files_that_cannot_be_read(tmp_path):
    cases = {
        "missing.toml": (None, "no such file; check the path"),
        "latin.toml": ("name = 'é'".encode("latin-1"), "save the file with the encoding UTF-8"),
        "large.toml": (b"#" * (1 << 20) + b"#", "larger than 1 MiB"),
        "empty.toml": (b"", "relaxcert is missing"),
        "nul.toml": (b"\0", "not valid TOML"),
    }
    for name, (content, problem) in cases.items():
        path = tmp_path / name
        if content is not None:
            path.write_bytes(content)
        with pytest.raises(DocumentError) as caught:
            read_document(path)
        assert str(path) in str(caught.value)
        assert problem in str(caught.value)
    with pytest.raises(DocumentError, match="cannot be read"):
        read_document(tmp_path)
    marked = tmp_path / "marked.toml"
    marked.write_bytes(b"\xef\xbb\xbf" + GOOD.encode())
    assert read_document(str(marked)) == parse_document(GOOD)


@given(st.text() | st.text("[]{}=\"'\n.,# abkindpropety01", max_size=60))
@CHECKED
def test_no_text_does_anything_else_than_load_or_fail_clearly(text):
    with pytest.raises(DocumentError, match="<text>"):
        parse_document(text)
    with pytest.raises(DocumentError):
        from_canonical(text)


@pytest.mark.parametrize(
    ("prop", "arguments", "problem"),
    [
        (Local(eps=1), {}, "num_classes is missing"),
        (Local(eps=1), {"num_classes": 3, "class_names": ["a"]}, "class_names has 1 names for 3"),
        (Local(eps=1), {"num_classes": 2, "class_names": ["a", "b", "c"]}, "must agree"),
        (TopK(3, eps=1), {"num_classes": 3}, r"property\.k: k=3"),
        (Local(eps=1), {"num_classes": 3, "name": "A B"}, "name='A B'"),
        (Local(eps=1), {"num_classes": 3, "source": ""}, "source=''"),
        (Targeted([[0], [1]], eps=1), {"num_classes": 3}, "class '2' has no entry"),
        (Targeted([[0], [1]], eps=1), {"class_names": ["a"]}, "1 names for 2 classes"),
    ],
)
def test_document_of_refuses(prop, arguments, problem):
    with pytest.raises(DocumentError, match=problem):
        document_of(prop, **{"name": "a", "source": "b", **arguments})
