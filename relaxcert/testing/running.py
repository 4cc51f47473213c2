"""How the suites run: one hypothesis search at a time, failures as plain assertion errors.

The suites are classes that are inherited, and hypothesis does not let one ``@given`` method run
for several classes; so each method starts a search of its own.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from torch import Tensor

from relaxcert.errors import RelaxcertError


class ConformanceFailure(AssertionError):
    """What is tested does not do what the library relies on; says what, and for which input."""


class BrokenCertificate(ConformanceFailure):
    """A certificate that is wrong, with the point x and, where known, the x' that break it.

    Attributes:
        point: x, (...).
        witnesses: the x' that together break it, (points, ...), or None.
    """

    def __init__(self, message: str, point: Tensor, witnesses: Tensor | None) -> None:
        super().__init__(message)
        self.point = point.detach().double().cpu()
        self.witnesses = None if witnesses is None else witnesses.detach().double().cpu()


def require(condition: object, message: str) -> None:
    """Raise ConformanceFailure with ``message`` unless the condition is true."""
    if not condition:
        raise ConformanceFailure(message)


def refuses(error: type[RelaxcertError], call: Callable[[], object], message: str) -> str:
    """Check that ``call`` raises ``error``; returns the text of the error."""
    try:
        result = call()
    except error as raised:
        return str(raised)
    raise ConformanceFailure(f"{message}: expected {error.__name__}, got {result!r}.")


def for_all(
    *strategies: st.SearchStrategy[Any], share: float = 1.0, shrink: bool = True
) -> Callable[[Callable[..., None]], int]:
    """Run the decorated function at once on examples from the strategies.

    Args:
        strategies: one for each argument of the function.
        share: of the examples of the profile in force, for expensive checks; at least five.
        shrink: whether a failing example is made smaller; not where it is only a seed.

    Returns:
        How many examples ran, in place of the function.
    """

    def run(check: Callable[..., None]) -> int:
        count = 0

        def counted(*drawn: Any) -> None:
            nonlocal count
            count += 1
            check(*drawn)

        counted.__name__ = counted.__qualname__ = check.__name__
        profile = settings.get_profile(settings.get_current_profile_name())
        examples = max(5, round(profile.max_examples * share))
        phases = [phase for phase in profile.phases if shrink or phase != Phase.shrink]
        search = settings(
            phases=phases,
            deadline=None,
            max_examples=examples,
            suppress_health_check=[HealthCheck.too_slow, HealthCheck.nested_given],
        )
        search(given(st.tuples(*strategies))(_unpacked(counted)))()
        return count

    return run


def _unpacked(check: Callable[..., None]) -> Callable[[tuple[Any, ...]], None]:
    def one(drawn: tuple[Any, ...]) -> None:
        check(*drawn)

    return one
