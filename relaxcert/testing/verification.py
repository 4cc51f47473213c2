"""The verification report at the end of a test run."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from relaxcert.testing.recording import PREFIX

if TYPE_CHECKING:
    from relaxcert.testing.session import Session

_WORDS = {"passed": "holds", "failed": "BROKEN", "skipped": "skipped", "error": "ERROR"}


@dataclass(frozen=True)
class _Line:
    """One check in the report."""

    title: str
    outcome: str
    seconds: float
    figures: dict[str, Any]


def write_report(terminal: Any, session: Session | None, profile: str) -> None:
    """Write the report, if any test recorded figures; terminal: pytest's terminal reporter."""
    lines = list(_lines(terminal))
    if not lines:
        return
    terminal.section("relaxcert verification report")
    if session is not None:
        for line in session.header(profile):
            terminal.write_line(line.removeprefix("relaxcert: "))
    for line in lines:
        checked = str(line.figures.get("checked", ""))
        word = _WORDS[line.outcome]
        terminal.write_line(f"  {word:<8}{line.title:<62}{checked:<34}{line.seconds:6.1f} s")
    terminal.write_line(_counts(lines))
    for line in lines:
        if "counterexample" in line.figures:
            terminal.write_line(f"counterexample: {line.figures['broken'].splitlines()[0]}")
            terminal.write_line(f"  saved as  {line.figures['counterexample']}")
            terminal.write_line(f"  replay    {line.figures['replay']}")
    terminal.write_line(_verdict(lines))


def _lines(terminal: Any) -> list[_Line]:
    found: list[_Line] = []
    for outcome in _WORDS:
        for report in terminal.stats.get(outcome, []):
            properties = getattr(report, "user_properties", [])
            figures = {
                name.removeprefix(PREFIX): value
                for name, value in properties
                if name.startswith(PREFIX)
            }
            if figures:
                found.append(_Line(str(figures["check"]), outcome, report.duration, figures))
    return found


def _counts(lines: list[_Line]) -> str:
    total = {
        name: sum(int(line.figures.get(name, 0)) for line in lines)
        for name in ("points", "certified", "rejected", "falsified", "examples")
    }
    return (
        f"points {total['points']}: certified {total['certified']}, rejected {total['rejected']}; "
        f"falsified by the attack {total['falsified']}; hypothesis examples {total['examples']}; "
        f"{sum(line.seconds for line in lines):.1f} s"
    )


def _verdict(lines: list[_Line]) -> str:
    broken = [line.title for line in lines if line.outcome in ("failed", "error")]
    if broken:
        return f"NOT VERIFIED: {len(broken)} of {len(lines)} checks do not hold"
    skipped = sum(line.outcome == "skipped" for line in lines)
    return f"{len(lines) - skipped} checks hold" + (f", {skipped} skipped" if skipped else "")
