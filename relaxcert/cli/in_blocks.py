"""Certifying block by block on the command line: a bar, files that a broken run can go on from."""

from __future__ import annotations

from pathlib import Path

from relaxcert.cli.interrupts import resumable, this_command
from relaxcert.errors import InvalidInput
from relaxcert.heads.certificates import Certificates
from relaxcert.report.blocks import Parts, Work, certify_in_memory
from relaxcert.training.progress import bar
from relaxcert.training.ranks import launched, present_ranks


def check_folder(out: Path | None, *, resume: bool) -> None:
    """Raise InvalidInput where blocks have to be kept, or were kept, and no folder is given."""
    ranks = launched().count
    if out is None and ranks > 1:
        raise InvalidInput(
            f"{ranks} processes share their results through files: give --out, a folder that all "
            "of them see."
        )
    if out is None and resume:
        raise InvalidInput("--resume needs --out: it names the folder of the run that broke off.")


def certified_in_blocks(work: Work, out: Path | None, *, resume: bool) -> Certificates | None:
    """The certificates of all points; None on every rank but the first, which joins the blocks."""
    ranks = present_ranks()
    with bar(enabled=ranks.first) as progress:
        task = progress.add_task("certifying", total=None)
        if out is None:
            progress.update(task, total=len(work.inputs))
            return certify_in_memory(work, lambda points: progress.advance(task, points))
        parts = Parts(work, out, ranks, resume=resume)
        progress.update(task, total=sum(len(work.rows(block)) for block in parts.own))
        with resumable(lambda: _how_to_go_on(parts)):
            parts.certify(lambda points: progress.advance(task, points))
        return parts.joined() if ranks.first else None


def _how_to_go_on(parts: Parts) -> str:
    kept = sum(parts.path(block).exists() for block in parts.work.blocks)
    if not kept:
        return f"no block was kept yet; start again with: {this_command()}"
    return f"{kept} blocks are in {parts.folder}; go on with: {this_command('--resume')}"
