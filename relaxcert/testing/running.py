"""How the suites run: one hypothesis search at a time, failures as plain assertion errors.

The suites are classes that are inherited, and hypothesis does not let one ``@given`` method run
for several classes; so each method starts a search of its own.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from relaxcert.errors import RelaxcertError


class ConformanceFailure(AssertionError):
    """What is tested does not do what the library relies on; says what, and for which input."""


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
    *strategies: st.SearchStrategy[Any], share: float = 1.0
) -> Callable[[Callable[..., None]], int]:
    """Run the decorated function at once on examples from the strategies.

    Args:
        strategies: one for each argument of the function.
        share: of the examples of the profile in force, for expensive checks; at least five.

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
        examples = max(5, round(settings.default.max_examples * share))  # pyright: ignore
        search = settings(
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
