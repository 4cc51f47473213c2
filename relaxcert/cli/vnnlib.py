"""``relaxcert vnnlib``: files of other tools, judged by the exact backend."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path
from typing import Annotated, Any

import typer

from relaxcert.cli.common import Json, console
from relaxcert.interop.network_files import load_network
from relaxcert.interop.vnnlib.check import check_vnnlib
from relaxcert.interop.vnnlib.reader import read_vnnlib
from relaxcert.report.verdicts import to_json
from relaxcert.smt import ExactNetwork, exact_network
from relaxcert.spec import Local
from relaxcert.spec.verdict import Answer, Verdict
from relaxcert.training.progress import bar

app = typer.Typer(no_args_is_help=True)

_SMT = {Answer.CERTIFIED: "unsat", Answer.FALSIFIED: "sat", Answer.UNKNOWN: "unknown"}


@app.callback()
def vnnlib() -> None:
    """Judge VNN-LIB files.

    Example: [bold]relaxcert vnnlib check network.onnx prop_3.vnnlib[/bold]
    """


@app.command()
def check(
    network: Annotated[Path, typer.Argument(help="A .safetensors, .onnx or .nnet file.")],
    file: Annotated[Path, typer.Argument(help="A VNN-LIB 1.0 file.")],
    budget: Annotated[str, typer.Option(help="Time, such as 10s or 2m.")] = "10s",
    solver: Annotated[str, typer.Option(help="z3 or yices.")] = "z3",
    json: Json = False,
) -> None:
    """Decide a VNN-LIB 1.0 file exactly: unsat, sat with a witness, or unknown with the reason.

    The network is taken as its file has it: scores are not turned, inputs of a .nnet are
    normalised ones. Every witness is checked in exact arithmetic.

    Example: [bold]relaxcert vnnlib check net.nnet prop_3.vnnlib --budget 60s[/bold]
    """
    query = read_vnnlib(file)
    exact = _network(network, query.num_inputs)
    with bar() as progress:
        progress.add_task(f"deciding, at most {budget}", total=None)
        verdict = check_vnnlib(exact, query, budget=budget, solver=solver)
    if json:
        typer.echo(to_json(_summary(exact, verdict), indent=2))
        return
    screen = console()
    screen.print(f"{_SMT[verdict.answer]}: {verdict}", markup=False)
    if verdict.witness is not None:
        for place, value in enumerate(verdict.witness):
            screen.print(f"X_{place} = {float(value)!r}", markup=False)
        for place, value in enumerate(_outputs(exact, verdict)):
            screen.print(f"Y_{place} = {float(value)!r}", markup=False)


def _network(path: Path, inputs: int) -> ExactNetwork:
    # Scores as they are in the file, whose outputs are spoken of; the property plays no part.
    if path.suffix == ".safetensors":
        model = load_network(path)
    else:
        model = load_network(path, Local(eps=1), best="max")
    shape = model.net.lipschitz.input_shape
    return exact_network(model.net.backbone, shape if shape is not None else (inputs,))


def _outputs(exact: ExactNetwork, verdict: Verdict) -> tuple[Fraction, ...]:
    return exact.logits([Fraction(value) for value in verdict.witness or ()])


def _summary(exact: ExactNetwork, verdict: Verdict) -> dict[str, Any]:
    summary: dict[str, Any] = {
        "answer": _SMT[verdict.answer],
        "verdict": verdict.answer.value,
        "reason": verdict.reason,
    }
    if verdict.witness is not None:
        # Exact ratios beside floats: a float may be the rounded value.
        exactly = [Fraction(value) for value in verdict.witness]
        summary["inputs"] = [float(value) for value in exactly]
        summary["inputs_exactly"] = [str(value) for value in exactly]
        summary["outputs"] = [float(value) for value in _outputs(exact, verdict)]
    return summary
