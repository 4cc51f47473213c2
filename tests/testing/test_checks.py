"""``pytest --pyargs relaxcert.checks`` on a trained network: it passes, and faults are caught."""

from __future__ import annotations

import json
import xml.etree.ElementTree as ET
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import settings
from torch import nn

import relaxcert.testing.networks
import relaxcert.testing.session
import relaxcert.testing.verification  # noqa: F401
from relaxcert import GloRoNet, RelaxedTopK, save_model
from relaxcert.data import landsat
from relaxcert.testing import replay
from relaxcert.training import fit
from relaxcert.training.recipe import load_recipe
from tests.testing import faults

pytest_plugins = ["pytester"]
PLUGIN = ("-p", "relaxcert.testing.plugin", "-p", "no:cacheprovider")


@pytest.fixture(scope="module")
def trained(tmp_path_factory) -> Path:
    """A folder with model.safetensors and x.npy: the demo's network, trained for a moment."""
    from relaxcert.cli.train import network_of

    folder = tmp_path_factory.mktemp("trained")
    recipe, train = load_recipe("landsat-rt3"), landsat("train")
    net = network_of(recipe, train, 0)
    fit(net, train, recipe.optimisation.model_copy(update={"epochs": 3}), seed=0)
    save_model(net, folder / "model.safetensors")
    np.save(folder / "x.npy", landsat("test").inputs[:300].numpy())
    return folder


@pytest.fixture
def run_checks(pytester, trained, monkeypatch):
    """Run the checks in this process; the profile of hypothesis is put back."""
    kept = settings.get_current_profile_name()

    def run(*more, fault=faults.nothing, model=None, data=None):
        fault(monkeypatch)
        return pytester.runpytest_inprocess(
            *PLUGIN, "--pyargs", "relaxcert.checks",
            "--relaxcert-model", str(model or trained / "model.safetensors"),
            "--relaxcert-data", str(data or trained / "x.npy"), *more,
        )  # fmt: skip

    yield run
    settings.load_profile(kept)


def test_a_trained_network_passes_and_the_report_says_what_was_checked(run_checks, tmp_path):
    result = run_checks("--junitxml", str(tmp_path / "out.xml"))
    assert result.ret == 0
    result.stdout.fnmatch_lines(
        [
            "*relaxcert verification report*",
            "*model.safetensors, 6 classes; 300 points of *; profile quick",
            "RelaxedTopK(k=3*sha256 *",
            "  holds   points are certified and rejected *300 points*s",
            "  holds   every layer bound is at least what the layer does *9 layers*s",
            "  holds   an attack breaks no certificate *certificates*s",
            "points 300: certified *, rejected *; falsified by the attack *; * examples 25;*",
            "13 checks hold",
        ]
    )
    cases = ET.parse(tmp_path / "out.xml").getroot().iter("testcase")
    numbers = {
        entry.get("name"): entry.get("value") for case in cases for entry in case.iter("property")
    }
    assert numbers["relaxcert.points"] == "300"
    assert int(numbers["relaxcert.certified"]) + int(numbers["relaxcert.rejected"]) == 300
    assert int(numbers["relaxcert.certified"]) > 0


FAULTS = [
    (
        faults.nine_tenths_of_eps,
        {"certificates count the whole ball", "certified radii end where they say"},
    ),
    (
        faults.one_layer_ten_percent_low,
        {"every layer bound is at least what the layer does", "bounds follow the weights"},
    ),
    (faults.bounds_never_expire, {"bounds follow the weights"}),
    (faults.ties_are_masked_by_value, {"ties are never certified"}),
]


@pytest.mark.parametrize(("fault", "checks"), FAULTS, ids=lambda x: getattr(x, "__name__", ""))
def test_a_fault_is_caught_by_the_check_that_is_named(run_checks, fault, checks):
    result = run_checks(fault=fault)
    assert result.ret == 1
    broken = {line[10:].split("  ")[0] for line in result.outlines if line.startswith("  BROKEN")}
    assert checks <= broken, result.stdout.str()
    assert any(line.startswith("NOT VERIFIED: ") for line in result.outlines)


def test_a_broken_certificate_is_saved_and_replayed(run_checks, trained, capsys, monkeypatch):
    """A head that counts half of eps: the attack finds an x', which replays outside of pytest."""
    from relaxcert.heads import certify as certify_module

    right = certify_module.fraction_up

    def half(patch):
        patch.setattr(certify_module, "fraction_up", lambda eps: 0.5 * right(eps))

    result = run_checks("-k", "attack", fault=half)
    assert result.ret == 1
    (saved,) = Path.cwd().glob("relaxcert-counterexamples/*.npz")
    result.stdout.fnmatch_lines(
        [
            "counterexample: point * is certified, but an attack breaks *",
            f"  saved as  relaxcert-counterexamples/{saved.name}",
            "  replay    python -m relaxcert.testing.replay relaxcert-counterexamples/*",
        ]
    )
    arguments = [str(saved), "--model", str(trained / "model.safetensors")]
    assert replay.main(arguments) == 3, "still with the fault"
    assert "a soundness violation" in capsys.readouterr().out
    monkeypatch.setattr(certify_module, "fraction_up", right)
    assert replay.main(arguments) == 0
    assert "broken, but x is not certified" in capsys.readouterr().out


def test_replay_refuses_other_files(tmp_path, trained, capsys):
    path = tmp_path / "other.npz"
    np.savez(path, x=np.zeros(3))
    assert replay.main([str(path), "--model", str(trained / "model.safetensors")]) == 2
    assert "not a counterexample" in capsys.readouterr().err
    assert replay.main([str(tmp_path / "missing.npz")]) == 2


def test_a_network_of_the_users_own_through_fixtures(pytester, run_checks):
    pytester.makepyfile(
        """
        import pytest, torch
        from torch import nn
        from relaxcert import GloRoNet, Local
        from relaxcert.testing import NetworkConformance

        class TestMine(NetworkConformance):
            @pytest.fixture
            def certified_network(self):
                torch.manual_seed(0)
                backbone = nn.Sequential(nn.Linear(3, 8), nn.ReLU(), nn.Linear(8, 4))
                return GloRoNet(backbone, Local(eps="0.05", norm="linf"))

            @pytest.fixture
            def relaxcert_points(self):
                return torch.rand(40, 3, generator=torch.Generator().manual_seed(1))

        def test_fixtures(robustness_property, certified_network, relaxcert_points):
            assert robustness_property == certified_network.prop
            assert relaxcert_points.shape == (300, 36)
        """
    )
    plain = pytester.runpytest_inprocess(*PLUGIN, "--relaxcert-profile", "quick", "-k", "TestMine")
    plain.assert_outcomes(passed=13, deselected=1)
    lacking = pytester.runpytest_inprocess(*PLUGIN, "-k", "test_fixtures")
    lacking.assert_outcomes(errors=1, deselected=13)
    lacking.stdout.fnmatch_lines(["*--relaxcert-model is missing*"])


def test_it_runs_under_xdist(pytester, trained):
    pytest.importorskip("xdist")
    result = pytester.runpytest_subprocess(
        *PLUGIN, "-n", "2", "--pyargs", "relaxcert.checks",
        "--relaxcert-model", str(trained / "model.safetensors"),
        "--relaxcert-data", str(trained / "x.npy"),
        "-k", "points_are_certified or layer_bound or attack",
    )  # fmt: skip
    result.assert_outcomes(passed=3)
    result.stdout.fnmatch_lines(
        ["points 300: certified *, rejected *; falsified *", "3 checks hold"]
    )


# --- bad input: usage errors that name the option ----------------------------------------------


@pytest.fixture
def bad(tmp_path, trained):
    """Files that do not fit, by name."""
    five = GloRoNet(nn.Sequential(nn.Linear(36, 5)), RelaxedTopK(3, eps="0.03"))
    save_model(five, tmp_path / "five.safetensors")
    (tmp_path / "text.safetensors").write_text("not a model")
    (tmp_path / "model.pt").write_bytes(b"x")
    np.save(tmp_path / "narrow.npy", np.zeros((4, 35), dtype=np.float32))
    np.save(tmp_path / "nan.npy", np.full((4, 36), np.nan, dtype=np.float32))
    np.save(tmp_path / "none.npy", np.zeros((0, 36), dtype=np.float32))
    (tmp_path / "empty.npy").write_bytes(b"")
    (tmp_path / "five.toml").write_text(
        'relaxcert = 1\nname = "own/five"\ntitle = "t"\nsource = "a test"\n'
        'num_classes = 5\n[property]\nkind = "local"\neps = "0.03"\n'
    )
    _with_tanh(trained / "model.safetensors", tmp_path / "tanh.safetensors")
    return tmp_path


def _with_tanh(source: Path, target: Path) -> None:
    """The same file with an activation that has no rule."""
    from safetensors import safe_open
    from safetensors.torch import save_file

    with safe_open(source, "pt") as file:
        metadata = dict(file.metadata())
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    architecture = json.loads(metadata["architecture"])
    kinds = architecture["children"]
    name = next(name for name, child in kinds.items() if child["kind"] == "MinMax")
    kinds[name]["kind"] = "Tanhshrink"
    metadata["architecture"] = json.dumps(architecture)
    save_file(tensors, target, metadata)


BAD = {
    "property for six classes": (
        ["--relaxcert-property", "landsat/soils"], "five.safetensors", None,
        "--relaxcert-property:*6 classes, but the network has 5*",
    ),
    "document for five classes": (
        ["--relaxcert-property", "five.toml"], None, None,
        "--relaxcert-property:*stated for 5 classes, but the network has 6*",
    ),
    "not a model": ([], "text.safetensors", None, "--relaxcert-model:*cannot be read*"),
    "other kind of file": ([], "model.pt", None, "--relaxcert-model:*neither .safetensors*"),
    "no such model": ([], "missing.safetensors", None, "--relaxcert-model:*no such file*"),
    "unsupported": ([], "tanh.safetensors", None, "--relaxcert-model:*Tanhshrink*one of*"),
    "unknown property": (
        ["--relaxcert-property", "landsat/soil"], None, None,
        "--relaxcert-property:*Did you mean 'landsat/soils'*",
    ),
    "wrong shape": ([], None, "narrow.npy", "--relaxcert-data:*(35,)*(36,)*"),
    "NaN": ([], None, "nan.npy", "--relaxcert-data:*nan*"),
    "no points": ([], None, "none.npy", "--relaxcert-data:*no points*"),
    "empty file": ([], None, "empty.npy", "--relaxcert-data:*"),
    "no such data": ([], None, "missing.npy", "--relaxcert-data:*no such file*"),
}  # fmt: skip


@pytest.mark.parametrize("what", list(BAD))
def test_bad_input_is_a_usage_error_that_names_the_option(run_checks, bad, what):
    more, model, data, message = BAD[what]
    more = [str(bad / word) if word.endswith(".toml") else word for word in more]
    result = run_checks(*more, model=model and bad / model, data=data and bad / data)
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines([f"ERROR: {message}"])
    assert "Traceback" not in result.stderr.str() + result.stdout.str()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--pyargs", "relaxcert.checks"], "*--relaxcert-model is missing*"),
        (["--relaxcert-data", "x.npy"], "*--relaxcert-data goes with --relaxcert-model*"),
        (["--relaxcert-profile", "slow"], "*--relaxcert-profile: invalid choice*quick*"),
    ],
)
def test_options_that_lack_others_are_usage_errors(pytester, arguments, message):
    result = pytester.runpytest_inprocess(*PLUGIN, *arguments)
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines([message])


def test_an_unsupported_layer_of_the_users_own_is_refused_with_its_path():
    from relaxcert.errors import UnsupportedLayer

    with pytest.raises(UnsupportedLayer, match=r"backbone\.1 .*register a rule"):
        GloRoNet(nn.Sequential(nn.Linear(3, 3), nn.Tanhshrink()), RelaxedTopK(1, eps=1))
    assert torch.get_num_threads() == 1


@pytest.mark.parametrize(("kind", "broken"), [("GloRoNet", False), ("Hasty", True)])
def test_the_example_of_the_documents_runs_and_breaks(pytester, run_checks, kind, broken):
    source = Path(__file__).parents[2] / "examples" / "verify_network.py"
    text = source.read_text("utf-8")
    assert text.count("return GloRoNet(dense") == 1
    pytester.makepyfile(test_it=text.replace("return GloRoNet(dense", f"return {kind}(dense"))
    profile = ("--relaxcert-profile", "quick", "-k", "whole_ball or points_are")
    result = pytester.runpytest_inprocess(*PLUGIN, *profile)
    assert result.ret == int(broken)
    said = result.stdout.str()
    assert ("BROKEN  certificates count the whole ball" in said) == broken
    assert ("NOT VERIFIED" in said) == broken
