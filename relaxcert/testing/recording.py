"""What one check leaves behind: figures in its report (and JUnit XML), counterexamples as files."""

from __future__ import annotations

from collections.abc import Callable, Generator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from relaxcert.heads.gloronet import GloRoNet

PREFIX = "relaxcert."


class CheckRecord:
    """Records figures of the running test as ``relaxcert.NAME``: the fixture ``relaxcert_check``.

    They travel with the test's report, so that they also arrive from the workers of pytest-xdist.
    """

    def __init__(
        self, record: Callable[[str, object], None], folder: Path, test: str, model: str
    ) -> None:
        self._record = record
        self._folder = folder
        self._test = test
        self._model = model
        record(PREFIX + "check", test.removeprefix("test_").replace("_", " "))

    def __call__(self, **figures: Any) -> None:
        """Record numbers and texts."""
        for name, value in figures.items():
            self._record(PREFIX + name, value)

    @contextmanager
    def counterexamples(self, net: GloRoNet) -> Generator[None]:
        """Save the point of a BrokenCertificate that is raised inside, and say how to replay it."""
        from relaxcert.testing.counterexamples import replay_command, save
        from relaxcert.testing.running import BrokenCertificate

        try:
            yield
        except BrokenCertificate as broken:
            found = (broken.point, broken.witnesses, str(broken))
            path = save(self._folder, self._test.removeprefix("test_"), net, found, self._model)
            command = replay_command(path, self._model)
            self(counterexample=str(path), replay=command, broken=str(broken))
            raise
