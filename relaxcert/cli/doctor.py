"""``relaxcert doctor``: what a report of a fault should hold."""

from __future__ import annotations

from typing import Any

import typer

from relaxcert.cli.common import NOT_MET, Json, console, table
from relaxcert.report.environment import environment
from relaxcert.report.verdicts import to_json

_GIGABYTE = 10**9
_ONLY_FOR_WORK_ON_RELAXCERT = ("dev", "docs")


def doctor(json: Json = False) -> None:
    """Say what relaxcert runs on: versions, devices, threads, arithmetic, free disk.

    Multiplies matrices on each device and compares with the exact product, to see whether float64
    products are conventional sums, which every certificate assumes. Exit status 1 if something
    found here would stop certification. Paste the output into a report of a fault.

    Example: [bold]relaxcert doctor --json[/bold]
    """
    found = environment()
    if json:
        typer.echo(to_json(found, indent=2))
    else:
        _show(found)
    if found["problems"]:
        raise typer.Exit(NOT_MET)


def _show(found: dict[str, Any]) -> None:
    screen = console()
    cpu, threads = found["cpu"], found["threads"]
    lines = [
        f"relaxcert {found['relaxcert']}, {found['python']}, {found['platform']}",
        f"cpu: {cpu['usable_cores']} usable cores, torch uses {cpu['capability']} and "
        f"{threads['torch']} threads; {' '.join(cpu['flags']) or 'flags unknown'}",
        "free disk: "
        + ", ".join(f"{name} {_gigabytes(size)}" for name, size in found["free_bytes"].items()),
    ]
    screen.print("\n".join(lines), markup=False, highlight=False, soft_wrap=True)
    rows = [
        [
            f"{device['device']} {device.get('name', '')}".strip(),
            _yes(device["float64_products_conventional"]),
            _yes(device["float32_products_conventional"]),
            "allowed" if device["float32_refused"] is None else "refused",
        ]
        for device in found["devices"]
    ]
    columns = ("device", "float64 products", "float32 products", "float32 certification")
    screen.print(table("Arithmetic", columns, rows))
    screen.print(table("Packages", ("package", "version", "extra"), _package_rows(found)))
    for problem in found["problems"]:
        screen.print(f"problem: {problem}", markup=False, highlight=False, soft_wrap=True)
    if not found["problems"]:
        screen.print("nothing found here would stop certification")


def _package_rows(found: dict[str, Any]) -> list[list[str]]:
    rows: list[list[str]] = []
    for name, entry in found["packages"].items():
        extras = [extra for extra in entry["extras"] if extra not in _ONLY_FOR_WORK_ON_RELAXCERT]
        if extras or not entry["extras"]:
            rows.append([name, entry["version"] or "missing", ", ".join(extras) or "always"])
    return rows


def _gigabytes(size: int | None) -> str:
    return "unknown" if size is None else f"{size / _GIGABYTE:.1f} GB"


def _yes(conventional: bool) -> str:
    return "conventional" if conventional else "NOT conventional"
