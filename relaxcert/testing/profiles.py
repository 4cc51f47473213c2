"""How thorough a run is: hypothesis profiles, and sizes of the checks."""

from __future__ import annotations

from dataclasses import dataclass

QUICK, THOROUGH = "quick", "thorough"
PROFILES = (QUICK, THOROUGH)


@dataclass(frozen=True)
class Effort:
    """Sizes of the checks of one profile.

    Attributes:
        points: how many points of the data most checks use.
        edges: how many lines are searched for points that are only just certified.
        steps, restarts: of the attack.
        judged: how many certificates the solver is asked about.
        examples: of each hypothesis search.
    """

    points: int
    edges: int
    steps: int
    restarts: int
    judged: int
    examples: int


EFFORTS = {
    QUICK: Effort(points=64, edges=96, steps=40, restarts=2, judged=2, examples=25),
    THOROUGH: Effort(points=1024, edges=1024, steps=100, restarts=10, judged=20, examples=1000),
}


def load_hypothesis_profile(name: str) -> None:
    """Register and load the profile ``relaxcert-quick`` or ``relaxcert-thorough``.

    Quick: the same examples each time, no database, for continuous integration. Thorough: many
    examples, failing ones kept in ``.hypothesis/examples``, and hypothesis climbs towards the
    smallest margin (its target phase).
    """
    from hypothesis import Phase, settings
    from hypothesis.database import DirectoryBasedExampleDatabase

    if name == QUICK:
        phases = [phase for phase in Phase if phase is not Phase.target]
        settings.register_profile(
            "relaxcert-quick",
            max_examples=EFFORTS[QUICK].examples,
            derandomize=True,
            database=None,
            deadline=None,
            phases=phases,
        )
    else:
        settings.register_profile(
            "relaxcert-thorough",
            max_examples=EFFORTS[THOROUGH].examples,
            database=DirectoryBasedExampleDatabase(".hypothesis/examples"),
            deadline=None,
        )
    settings.load_profile(f"relaxcert-{name}")
