"""The command line: from a recipe to a verdict, and one paragraph for each mistake."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import jsonschema
import numpy as np
import pytest
import torch
import typer.main

from relaxcert.cli import app, main
from relaxcert.data import landsat
from relaxcert.heads.model_file import load_model
from relaxcert.report import plots
from relaxcert.spec import digest, load_property
from relaxcert.spec.catalogue import catalogue
from relaxcert.training import evaluate, recipes

ROOT = Path(__file__).parents[2]
DOCUMENT = """\
relaxcert = 1
name = "mine"
source = "a test"
num_classes = 6
class_names = ["a", "b", "c", "d", "e", "f"]

[property]
kind = "affinity"
sets = [["a", "b"], ["c", "d", "e"], ["f"]]
eps = "0.03"
"""


class Result:
    def __init__(self, status: int, out: str, err: str) -> None:
        self.status, self.out, self.err = status, out, err


@pytest.fixture
def run(monkeypatch, capsys):
    """Run the command line in this process, as the script would."""

    def run(*arguments: object) -> Result:
        monkeypatch.setattr(sys, "argv", ["relaxcert", *map(str, arguments)])
        with monkeypatch.context() as patch:
            patch.setattr("warnings.showwarning", None)  # main() replaces it; put it back after
            try:
                main()
                status = 0
            except SystemExit as exit_:
                status = exit_.code or 0
        captured = capsys.readouterr()
        return Result(status, captured.out, captured.err)

    return run


@pytest.fixture(scope="module")
def trained(tmp_path_factory) -> Path:
    """A folder with a model that two real epochs gave, by the real command in a real process."""
    folder = tmp_path_factory.mktemp("trained")
    command = ["train", "--recipe", "landsat-rt3", "--epochs", "2", "--out", str(folder)]
    done = subprocess.run(
        [sys.executable, "-m", "relaxcert", *command],
        cwd=ROOT,
        env={**os.environ, "OMP_NUM_THREADS": "1"},  # sums depend on the number of threads
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    assert "model written to" in done.stdout
    return folder


@pytest.fixture
def model(trained) -> Path:
    return trained / "landsat-rt3.safetensors"


def contents(folder: Path) -> dict[str, bytes]:
    found = [path for path in folder.rglob("*") if path.is_file()]
    return {str(path.relative_to(folder)): path.read_bytes() for path in found}


def test_train_writes_the_model_the_checkpoint_and_the_last_weights(trained, model):
    names = {path.name for path in trained.iterdir()}
    assert names == {"landsat-rt3.safetensors", "checkpoint.safetensors", "last.safetensors"}
    loaded = load_model(model)
    assert loaded.net.prop == load_property("landsat/rt3")
    assert loaded.notes == {"recipe": "landsat-rt3", "seed": "0"}
    assert loaded.class_names == landsat("test").class_names
    figures, _ = evaluate(loaded.net, *_test_split())
    assert figures.vra > 0.8


def _test_split() -> tuple[torch.Tensor, torch.Tensor]:
    split = landsat("test")
    return split.inputs, split.labels


def test_train_gives_the_same_model_for_the_same_seed_and_resumes(run, trained, model, tmp_path):
    again = tmp_path / "again"
    options = ("--recipe", "landsat-rt3", "--epochs", 2)
    assert run("train", *options, "--out", again).status == 0
    first, second = (load_model(folder / model.name).net for folder in (trained, again))
    assert first.verify().fingerprint == second.verify().fingerprint
    assert run("train", *options, "--out", again, "--resume").status == 0
    assert load_model(again / model.name).net.verify().fingerprint == first.verify().fingerprint
    other = run("train", *options, "--out", again, "--resume", "--seed", 1)
    assert_one_clear_error(other, "seed=0", "use the same settings")


def test_train_on_data_of_ones_own_with_validation(run, tmp_path):
    train, test = landsat("fit"), landsat("validation")
    for name, split in (("mine", train), ("held", test)):
        np.savez(tmp_path / name, x=split.inputs[:300].numpy(), y=split.labels[:300].numpy())
    recipe = tmp_path / "my.toml"
    recipe.write_text(
        'recipe = 1\nname = "my"\ndata = "mine"\nproperty = "landsat/soils"\n'
        "[architecture]\nhidden = [8]\n[optimisation]\nepochs = 3\n",
        encoding="utf-8",
    )
    out = tmp_path / "out"
    done = run(
        "train", "--recipe", recipe, "--data", tmp_path / "mine.npz",
        "--validation", tmp_path / "held.npz", "--out", out,
    )  # fmt: skip
    assert done.status == 0
    assert "Validation" in done.out
    assert (out / "best.safetensors").exists()
    net = load_model(out / "my.safetensors").net
    figures, _ = evaluate(net, test.inputs[:300], test.labels[:300])
    assert f"{figures.vra:.3f}" in done.out


def test_certify_writes_verdicts_that_agree_with_the_library(run, model, tmp_path):
    out = tmp_path / "verdicts"
    done = run("certify", model, "--data", "landsat:test", "--out", out, "--json")
    assert done.status == 0
    shown = json.loads(done.out)
    assert shown == json.loads((out / "summary.json").read_text("utf-8"))
    figures, certificates = evaluate(load_model(model).net, *_test_split())
    assert shown["figures"] == figures.as_dict()
    assert shown["digest"] == digest(load_property("landsat/rt3"))
    lines = [json.loads(line) for line in (out / "verdicts.jsonl").read_text().splitlines()]
    assert [line["certified"] for line in lines] == certificates.certified.tolist()
    assert [line["label"] for line in lines] == landsat("test").labels.tolist()
    table = run("certify", model, "--data", "landsat:test", "--batch-size", 333)
    assert table.status == 0
    for value in (figures.vra, figures.rejection_rate, figures.clean_accuracy):
        assert f"{value:.3f}" in table.out


def test_certify_reads_files_and_scales_them_like_the_embedded_data(run, model, tmp_path):
    bytes_ = (landsat("test").inputs * 255).round().to(torch.uint8).numpy()
    np.save(tmp_path / "bytes.npy", bytes_)
    np.savetxt(tmp_path / "numbers.csv", bytes_, delimiter=",", fmt="%d")
    shown = [
        json.loads(run("certify", model, "--data", data, *more, "--json").out)
        for data, more in [
            ("landsat:test", ()),
            (tmp_path / "bytes.npy", ("--scale", 255)),
            (tmp_path / "numbers.csv", ("--scale", 255)),
        ]
    ]
    assert shown[0]["certified"] == shown[1]["certified"] == shown[2]["certified"] > 1000
    assert shown[1]["figures"] is None
    unlabelled = run("certify", model, "--data", tmp_path / "bytes.npy")
    assert "no labels" in unlabelled.out


def test_require_vra_decides_the_exit_status(run, model):
    met = run("certify", model, "--data", "landsat:test", "--require-vra", 0.5)
    assert met.status == 0
    missed = run("certify", model, "--data", "landsat:test", "--require-vra", 0.999)
    assert missed.status == 1
    assert "not met: VRA 0." in missed.err
    assert "below the required 0.9990" in missed.err
    assert missed.err.count("\n") == 1


def test_a_requirement_that_is_missed_still_leaves_the_verdicts(run, model, tmp_path):
    options = ("--data", "landsat:test", "--require-vra", 0.999, "--out", tmp_path)
    assert run("certify", model, *options).status == 1
    assert set(contents(tmp_path)) == {"verdicts.jsonl", "summary.json"}


def test_bounds_prints_the_verified_bound_of_each_layer(run, model):
    net = load_model(model).net
    shown = json.loads(run("bounds", model, "--json").out)
    assert [row["bound"] for row in shown["layers"]] == [r.bound for r in net.lipschitz.table()]
    assert all(row["verified"] for row in shown["layers"])
    assert shown["weights_sha256"] == net.verify().fingerprint
    assert shown["product_before_last"] == {"l2": net.verify().norms["l2"].product}
    table = run("bounds", model)
    assert table.status == 0
    assert "product before the last layer" in table.out


def test_properties_are_listed_shown_and_checked(run, tmp_path):
    listed = run("properties", "list")
    assert all(name in listed.out for name in catalogue())
    for name in catalogue():
        shown = run("properties", "show", name)
        assert shown.status == 0
        assert digest(load_property(name)) in shown.out
    path = tmp_path / "mine.toml"
    path.write_text(DOCUMENT, encoding="utf-8")
    checked = run("properties", "check", path)
    assert checked.status == 0
    assert f"{path}: ok" in checked.out
    # What show prints is a document again, of the same property.
    printed = run("properties", "show", path).out
    second = tmp_path / "second.toml"
    second.write_text(printed[printed.index("relaxcert = 1") :], encoding="utf-8")
    assert load_property(second) == load_property(path)
    canonical = run("properties", "show", path, "--canonical").out
    assert json.loads(canonical)


def test_the_schema_accepts_the_catalogue(run):
    schema = json.loads(run("properties", "--schema").out)
    validator = jsonschema.Draft202012Validator(schema)
    validator.check_schema(schema)
    assert not validator.is_valid({"relaxcert": 1})


def test_recipes_are_listed(run):
    listed = run("train", "--list")
    assert listed.status == 0
    assert all(name in listed.out for name in recipes())


def test_the_version_is_that_of_the_package(run):
    import relaxcert

    assert run("--version").out.strip() == relaxcert.__version__


def commands() -> list[list[str]]:
    def under(group: object, path: list[str]) -> list[list[str]]:
        found = []
        for name, command in getattr(group, "commands", {}).items():
            found += [[*path, name], *under(command, [*path, name])]
        return found

    return under(typer.main.get_command(app), [])


def test_all_commands_are_known_to_these_tests():
    named = {" ".join(path) for path in commands()}
    assert {"demo", "train", "certify", "bounds", "properties list"} <= named
    assert len(named) >= 8


@pytest.mark.parametrize("path", commands(), ids=" ".join)
def test_the_help_of_every_command_has_an_example(run, path):
    shown = run(*path, "--help")
    assert shown.status == 0
    text = " ".join(shown.out.split())
    assert "Example" in text
    assert f"relaxcert {' '.join(path)}" in text


def assert_one_clear_error(result: Result, *said: str) -> None:
    """Status 2, and one paragraph on standard error with everything that was asked for."""
    assert result.status == 2, result.out + result.err
    assert result.err.startswith("error: ")
    assert result.err.endswith("\n")
    assert result.err.count("\n") == 1, result.err
    assert "Traceback" not in result.err
    for words in said:
        assert words in result.err
    assert "error" not in result.out


PROPERTY_MISTAKES = [
    ('kind = "affinity"', 'kind = "affinity"\nsizes = 3', ["property.sizes", "remove it"]),
    ('["a", "b"]', '["a", "z"]', ["property.sets", "'z'"]),
    ('eps = "0.03"', 'eps = "0"', ["property.eps", "greater than 0", "0.03"]),
    ('eps = "0.03"', 'eps = "nan"', ["property.eps", "0.03"]),
    ('kind = "affinity"', 'kind = "affine"', ["property.kind", "Did you mean 'affinity'"]),
    (
        'sets = [["a", "b"], ["c", "d", "e"], ["f"]]',
        "",
        ["property: exactly one of sets, adjacent"],
    ),
    ("num_classes = 6", "num_classes = 5", ["class_names"]),
    ("relaxcert = 1", "relaxcert = ", ["not valid TOML"]),
]


@pytest.mark.parametrize(("old", "new", "said"), PROPERTY_MISTAKES)
def test_a_mistake_in_a_property_document_is_one_clear_paragraph(run, tmp_path, old, new, said):
    assert DOCUMENT.count(old) == 1
    path = tmp_path / "mine.toml"
    path.write_text(DOCUMENT.replace(old, new), encoding="utf-8")
    for command in ("check", "show"):
        assert_one_clear_error(run("properties", command, path), str(path), *said)


def test_a_document_without_its_property_table_is_one_clear_paragraph(run, tmp_path):
    path = tmp_path / "mine.toml"
    path.write_text(DOCUMENT.partition("[property]")[0], encoding="utf-8")
    assert_one_clear_error(run("properties", "check", path), str(path), "property is missing")


def test_names_that_do_not_exist_are_answered_with_the_nearest(run):
    found = run("properties", "show", "landsat/soil")
    assert_one_clear_error(found, "'landsat/soil'", "Did you mean 'landsat/soils'")
    found = run("train", "--recipe", "landsat-rt33")
    assert_one_clear_error(found, "'landsat-rt33'", "Did you mean 'landsat-rt3'")


def good_points() -> np.ndarray:
    return landsat("test").inputs[:20].numpy()


DATA_MISTAKES = [
    ({"x": good_points()[:, :-1]}, ["field x has 35 features", "takes 36", "use the data"]),
    (
        {"x": np.where(np.arange(20)[:, None] == 7, np.nan, good_points())},
        ["row 7 of x holds NaN", "remove or mend"],
    ),
    ({"x": good_points(), "y": np.full(20, 6)}, ["row 0 of y is 6", "0 to 5"]),
    ({"x": good_points(), "y": np.zeros(3)}, ["field y has shape (3,)"]),
    ({"z": good_points()}, ["field x is missing", "np.savez"]),
    ({"x": good_points()[:0]}, ["holds no points"]),
]


@pytest.mark.parametrize(("arrays", "said"), DATA_MISTAKES)
def test_a_mistake_in_a_data_file_is_one_clear_paragraph(run, model, tmp_path, arrays, said):
    out = tmp_path / "out"
    out.mkdir()
    (out / "summary.json").write_text("precious", encoding="utf-8")
    before = contents(out)
    np.savez(tmp_path / "bad.npz", **arrays)
    found = run("certify", model, "--data", tmp_path / "bad.npz", "--out", out)
    assert_one_clear_error(found, "bad.npz", *said)
    assert contents(out) == before


@pytest.mark.parametrize("share", [0.0, 0.001, 0.5, 0.99])
def test_a_model_file_cut_off_is_one_clear_paragraph(run, model, tmp_path, share):
    whole = model.read_bytes()
    cut = tmp_path / "cut.safetensors"
    cut.write_bytes(whole[: int(share * len(whole))])
    out = tmp_path / "out"
    found = run("certify", cut, "--data", "landsat:test", "--out", out)
    assert_one_clear_error(found, "cut.safetensors", "cut off", "copy it again")
    assert_one_clear_error(run("bounds", cut), "cut.safetensors", "cut off")
    assert not out.exists()
    assert cut.read_bytes() == whole[: int(share * len(whole))]


def test_a_checkpoint_is_no_model(run, trained):
    found = run("certify", trained / "checkpoint.safetensors", "--data", "landsat:test")
    assert_one_clear_error(found, "checkpoint.safetensors", "not one that relaxcert wrote")


def test_missing_files_devices_parts_and_folders_are_named(run, model, tmp_path):
    good = ("certify", model, "--data", "landsat:test")
    taken = tmp_path / "taken"
    taken.write_text("a file", encoding="utf-8")
    for command, said in [
        (("certify", tmp_path / "no.safetensors", "--data", "landsat:test"), ["no.safetensors"]),
        (("bounds", tmp_path / "no.safetensors"), ["no.safetensors", "no such file"]),
        (("bounds", tmp_path), [str(tmp_path)]),
        (("certify", model, "--data", tmp_path / "no.npz"), ["no.npz", "no such file"]),
        (("certify", model, "--data", "landsat:tset"), ["landsat:tset", ":test"]),
        (("certify", model, "--data", "points"), ["points", ".npz"]),
        ((*good, "--device", "tpu"), ["--device 'tpu'", "use --device cpu"]),
        ((*good, "--device", "cuda:99"), ["--device 'cuda:99'", "use --device cpu"]),
        ((*good, "--out", taken), [str(taken)]),
        ((*good, "--scale", "inf"), ["--scale inf"]),
        (("properties", "check", tmp_path / "no.toml"), ["no.toml", "check the path"]),
        (("train", "--recipe", tmp_path / "no.toml"), ["no.toml", "check the path"]),
        (("train", "--data", tmp_path / "no.npz"), ["no.npz"]),
        (("train", "--device", "tpu", "--out", tmp_path / "x"), ["--device 'tpu'"]),
        (("demo", "--device", "tpu", "--out", tmp_path / "x"), ["--device 'tpu'"]),
    ]:
        assert_one_clear_error(run(*command), *said)
    assert not (tmp_path / "x").exists()
    assert taken.read_text("utf-8") == "a file"


@pytest.mark.parametrize("option", ["--scale", "--require-vra"])
def test_not_a_number_is_no_number(run, model, tmp_path, option):
    """NaN is below and above nothing: a requirement of NaN would always be met."""
    options = ("--data", "landsat:test", "--out", tmp_path / "out", option, "nan")
    found = run("certify", model, *options)
    assert found.status == 2
    assert option in found.err
    assert not (tmp_path / "out").exists()


def test_requiring_a_vra_needs_labels(run, model, tmp_path):
    np.save(tmp_path / "bare.npy", good_points())
    found = run("certify", model, "--data", tmp_path / "bare.npy", "--require-vra", 0.5)
    assert_one_clear_error(found, "--require-vra needs labels", "x and y")


def test_training_data_with_a_wrong_label_or_none_leaves_the_folder_alone(run, tmp_path):
    out = tmp_path / "out"
    np.savez(tmp_path / "bad.npz", x=good_points(), y=np.arange(20))
    found = run("train", "--data", tmp_path / "bad.npz", "--out", out)
    assert_one_clear_error(found, "row 6", "label 6", "0 to 5")
    np.save(tmp_path / "bare.npy", good_points())
    found = run("train", "--data", tmp_path / "bare.npy", "--out", out)
    assert_one_clear_error(found, "--data", "bare.npy", "no labels")
    assert not out.exists()


def test_a_recipe_may_not_write_outside_the_folder(run, tmp_path):
    recipe = tmp_path / "evil.toml"
    recipe.write_text(
        'recipe = 1\nname = "../evil"\ndata = "landsat"\nproperty = "landsat/rt3"\n'
        "[architecture]\nhidden = [4]\n[optimisation]\nepochs = 1\n",
        encoding="utf-8",
    )
    found = run("train", "--recipe", recipe, "--out", tmp_path / "out")
    assert_one_clear_error(found, "evil.toml", "name: '../evil'")
    assert [path.name for path in tmp_path.iterdir()] == ["evil.toml"]


def test_a_recipe_of_other_data_asks_for_it(run, tmp_path):
    recipe = tmp_path / "other.toml"
    recipe.write_text(
        'recipe = 1\nname = "other"\ndata = "cifar100"\nproperty = "cifar100/rt5"\n'
        "[architecture]\nhidden = [4]\n",
        encoding="utf-8",
    )
    assert_one_clear_error(run("train", "--recipe", recipe), "'cifar100'", "give --data")


def test_without_matplotlib_the_demo_does_all_but_the_picture(run, tmp_path, monkeypatch):
    def missing(**_):
        raise plots.MissingPlots("plots need matplotlib")

    monkeypatch.setattr(plots, "new_figure", missing)
    done = run("demo", "--epochs", 1, "--no-attack", "--out", tmp_path)
    assert done.status == 0
    assert "no picture was drawn: plots need matplotlib" in done.out
    assert "results.json" in contents(tmp_path)
    assert "demo.png" not in contents(tmp_path)


def test_folders_named_like_markup_are_fine(run, model, tmp_path):
    out = tmp_path / "[bold]a[" / "b]"
    done = run("certify", model, "--data", "landsat:test", "--out", out)
    assert done.status == 0
    assert str(out) in "".join(done.out.split("\n"))
    strange = out / "model.safetensors"  # "[/b]" in its path would close a style
    strange.write_bytes(model.read_bytes())
    assert run("certify", strange, "--data", "landsat:test").status == 0
    assert run("bounds", strange).status == 0
    found = run("bounds", out / "none.safetensors")
    assert_one_clear_error(found, str(out / "none.safetensors"))


def test_debug_shows_the_traceback_of_an_error(run, tmp_path):
    from relaxcert.errors import ModelFileError

    with pytest.raises(ModelFileError):
        run("--debug", "bounds", tmp_path / "no.safetensors")


def test_a_command_that_typer_refuses_has_status_2(run, model):
    assert run("certify", model).status == 2
    assert run("nonsense").status == 2
    assert run("train", "--epochs", 0).status == 2
    assert run("train", "--seed", -1).status == 2
    assert run("train", "--seed", 2**64).status == 2


def test_an_uncovered_class_is_one_line_of_warning(tmp_path):
    text = DOCUMENT.replace('sets = [["a", "b"], ["c", "d", "e"], ["f"]]', 'sets = [["a", "b"]]')
    path = tmp_path / "mine.toml"
    path.write_text(text, encoding="utf-8")
    recipe = tmp_path / "my.toml"
    recipe.write_text(
        f'recipe = 1\nname = "my"\ndata = "landsat"\nproperty = "{path}"\n'
        "[architecture]\nhidden = [4]\n[optimisation]\nepochs = 1\n",
        encoding="utf-8",
    )
    command = ["train", "--recipe", str(recipe), "--out", str(tmp_path / "out")]
    done = subprocess.run(
        [sys.executable, "-m", "relaxcert", *command],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    lines = done.stderr.splitlines()
    assert lines
    assert all(line.startswith("warning: ") for line in lines)
    assert "no affinity set" in lines[0]


def test_bounds_are_set_beside_the_steepest_slope_found(run, model):
    shown = json.loads(run("bounds", model, "--tightness", "--data", "landsat:test", "--json").out)
    (row,) = shown["tightness"]
    assert row["norm"] == "l2"
    assert 1.0 <= row["ratio"] < 20.0
    assert row["bound"] == pytest.approx(row["ratio"] * row["found"])
    plain = run("bounds", model, "--tightness")
    assert plain.status == 0
    assert "steepest slope found" in plain.out


def test_level_d_is_asked_for_by_deployed(run, model):
    options = ("--data", "landsat:test", "--json")
    real = json.loads(run("certify", model, *options).out)
    single = json.loads(run("certify", model, *options, "--deployed", "float32").out)
    assert (real["level"], single["level"]) == ("R", "D(float32)")
    assert 0 < single["certified"] <= real["certified"]
    refused = run("certify", model, *options, "--deployed", "bfloat16")
    assert refused.status == 2
    assert "bfloat16" in refused.err
