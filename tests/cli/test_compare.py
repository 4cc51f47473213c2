"""``relaxcert compare`` on networks that were trained, saved and read again."""

from __future__ import annotations

import json
import sys

import pytest

from relaxcert.cli import main


@pytest.fixture
def run(monkeypatch, capsys):
    def call(*arguments: object) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["relaxcert", *map(str, arguments)])
        monkeypatch.setattr("warnings.showwarning", None)
        status = 0
        try:
            main()
        except SystemExit as exit_:
            status = int(exit_.code or 0)
        said = capsys.readouterr()
        return status, said.out, said.err

    return call


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    """Letter for Local and RT3, Landsat for Local; an epoch each."""
    folder = tmp_path_factory.mktemp("models")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("warnings.showwarning", None)
        for name in ("letter-local", "letter-rt3", "landsat-local"):
            options = ("--recipe", name, "--epochs", "2", "--out", str(folder))
            patch.setattr(sys, "argv", ["relaxcert", "train", *options])
            with pytest.raises(SystemExit) as caught:
                main()
            assert not caught.value.code
    return {n: folder / f"{n}.safetensors" for n in ("letter-local", "letter-rt3", "landsat-local")}


def test_two_networks_are_compared_and_everything_is_written(run, models, tmp_path):
    pair = (models["letter-local"], models["letter-rt3"])
    options = ("--data", "letter:test", "--groups", "letter/shapes", "--out", tmp_path)
    status, out, err = run("compare", *pair, *options)
    assert status == 0, err
    for said in ("Rejected by one", "Sets inside groups", "By class", "strictest sets"):
        assert said in out
    content = json.loads((tmp_path / "comparison.json").read_text("utf-8"))
    rejected = content["rejected"][0]["certified"]
    assert rejected["of"] == round(content["figures"][0]["rejection_rate"] * 4000)
    assert 0 < rejected["share"] < 1
    assert sum(line["points"] for line in content["classes"]) == 4000
    assert len(content["classes"]) == 26
    assert sum(content["strictest_sizes"][1]) == 4000
    for row, sets in content["example_sets"].items():
        assert int(row) < 4000
        assert len(sets) == 2
    for name in ("comparison.png", "points.png"):
        assert (tmp_path / name).read_bytes().startswith(b"\x89PNG")


def test_groups_may_be_written_out_and_the_rest_are_alone(run, models):
    pair = (models["letter-local"], models["letter-rt3"])
    options = ("--data", "letter:test", "--groups", "O,Q,3;I,L", "--json", "--examples", 0)
    status, out, err = run("compare", *pair, *options)
    assert status == 0, err
    groups = json.loads(out)["groups"]
    assert [3, 14, 16] in groups
    assert [8, 11] in groups
    assert len(groups) == 2 + 26 - 5


def test_a_network_compared_with_itself_rejects_the_same_points(run, models):
    model = models["landsat-local"]
    status, out, _ = run("compare", model, model, "--data", "landsat:test", "--json")
    assert status == 0
    content = json.loads(out)
    assert content["grouped"] is None
    assert content["rejected"][0] == content["rejected"][1]
    assert content["rejected"][0]["certified"]["count"] == 0
    assert content["figures"][0] == content["figures"][1]


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("landsat-local", "--data", "letter:test"), "26 and 6 classes"),
        (("letter-rt3", "--data", "letter:test", "--groups", "letter/rt3"), "has no affinity sets"),
        (("letter-rt3", "--data", "letter:test", "--groups", "A,Ä"), "names a class 'Ä'"),
    ],
)
def test_what_does_not_belong_together_is_one_clear_paragraph(run, models, options, said):
    status, _, err = run("compare", models["letter-local"], models[options[0]], *options[1:])
    assert status == 2
    assert said in " ".join(err.split())
