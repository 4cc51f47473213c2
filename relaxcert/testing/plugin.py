"""The pytest plugin: options, fixtures and the verification report.

Every pytest run where relaxcert is installed imports this file, so it imports neither torch nor
hypothesis nor anything else of relaxcert; all that happens when an option of it is used.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from relaxcert.testing.profiles import EFFORTS, PROFILES, QUICK, Effort, load_hypothesis_profile
from relaxcert.testing.recording import CheckRecord

if TYPE_CHECKING:
    from torch import Tensor

    from relaxcert.heads.gloronet import GloRoNet
    from relaxcert.spec.property import Property
    from relaxcert.testing.session import Session

_SESSION = pytest.StashKey["Session"]()
_CHECKS = "relaxcert.checks"


def pytest_addoption(parser: pytest.Parser) -> None:
    """Declare the options."""
    group = parser.getgroup("relaxcert", "certified robustness")
    group.addoption(
        "--relaxcert-model", metavar="FILE", help="Network: model.safetensors or model.onnx."
    )
    group.addoption(
        "--relaxcert-property",
        metavar="NAME",
        help="Property: a catalogue name or a .toml file; default: the one in the model file.",
    )
    group.addoption(
        "--relaxcert-data", metavar="FILE", help="Points: .npy, .npz (x) or .csv, (points, ...)."
    )
    group.addoption(
        "--relaxcert-profile",
        choices=PROFILES,
        help="quick: minutes at most, the same each time (default). thorough: for nightly runs.",
    )
    group.addoption(
        "--relaxcert-out",
        metavar="FOLDER",
        default="relaxcert-counterexamples",
        help="Where counterexamples are saved (default: %(default)s).",
    )


def pytest_configure(config: pytest.Config) -> None:
    """Read model, property and data before anything runs: what is wrong is a usage error."""
    profile: str | None = config.getoption("relaxcert_profile")
    model: str | None = config.getoption("relaxcert_model")
    if model is None:
        for name in ("property", "data"):
            if config.getoption(f"relaxcert_{name}") is not None:
                raise pytest.UsageError(
                    f"--relaxcert-{name} goes with --relaxcert-model, which is missing."
                )
    used = model is not None or profile is not None
    if used and config.getoption("--hypothesis-profile", None) is None:
        _load_profile(profile or QUICK)
    if model is not None:
        from relaxcert.testing.session import open_session

        config.stash[_SESSION] = open_session(
            Path(model),
            config.getoption("relaxcert_property"),
            config.getoption("relaxcert_data"),
        )


def _load_profile(name: str) -> None:
    from relaxcert.errors import MissingExtra
    from relaxcert.testing.needs import need

    try:
        need("hypothesis")
    except MissingExtra as missing:
        raise pytest.UsageError(str(missing)) from missing
    load_hypothesis_profile(name)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """The shipped checks need a model and data."""
    if not any(_module_of(item).startswith(_CHECKS) for item in items):
        return
    for name in ("model", "data"):
        if config.getoption(f"relaxcert_{name}") is None:
            raise pytest.UsageError(
                f"--relaxcert-{name} is missing: {_CHECKS} checks a network on points, for example "
                "pytest --pyargs relaxcert.checks --relaxcert-model model.safetensors "
                "--relaxcert-data x.npy"
            )


def _module_of(item: pytest.Item) -> str:
    return getattr(getattr(item, "module", None), "__name__", "")


def pytest_report_header(config: pytest.Config) -> list[str]:
    """What is under test."""
    session = config.stash.get(_SESSION, None)
    return [] if session is None else session.header(_profile(config))


def pytest_terminal_summary(terminalreporter: Any, config: pytest.Config) -> None:
    """The verification report, if any check ran."""
    from relaxcert.testing.verification import write_report

    write_report(terminalreporter, config.stash.get(_SESSION, None), _profile(config))


def _profile(config: pytest.Config) -> str:
    return config.getoption("relaxcert_profile") or QUICK


def _session(config: pytest.Config) -> Session:
    session = config.stash.get(_SESSION, None)
    if session is None:
        pytest.fail(
            "--relaxcert-model is missing: give it on the command line, or override the fixture "
            "certified_network in your own tests.",
            pytrace=False,
        )
    return session


@pytest.fixture(scope="session")
def certified_network(pytestconfig: pytest.Config) -> GloRoNet:
    """The network of ``--relaxcert-model`` with the property of ``--relaxcert-property``."""
    return _session(pytestconfig).net


@pytest.fixture(scope="session")
def robustness_property(pytestconfig: pytest.Config) -> Property:
    """The property of ``--relaxcert-property``, or that of the model file."""
    return _session(pytestconfig).net.prop


@pytest.fixture(scope="session")
def relaxcert_points(pytestconfig: pytest.Config) -> Tensor:
    """The points of ``--relaxcert-data``, (points, ...)."""
    points = _session(pytestconfig).points
    if points is None:
        pytest.fail("--relaxcert-data is missing: give a .npy, .npz or .csv file.", pytrace=False)
    return points


@pytest.fixture(scope="session")
def relaxcert_effort(pytestconfig: pytest.Config) -> Effort:
    """The sizes of the checks under ``--relaxcert-profile``."""
    return EFFORTS[_profile(pytestconfig)]


@pytest.fixture
def relaxcert_check(request: pytest.FixtureRequest, pytestconfig: pytest.Config) -> CheckRecord:
    """Records figures of the running test for the verification report and JUnit XML."""
    session = pytestconfig.stash.get(_SESSION, None)
    folder = Path(str(pytestconfig.getoption("relaxcert_out")))
    model = "" if session is None else str(session.model)

    # Not the fixture record_property, which warns under junit_family=xunit2 (the default).
    def record(name: str, value: object) -> None:
        request.node.user_properties.append((name, value))

    return CheckRecord(record, folder, request.node.name, model)
