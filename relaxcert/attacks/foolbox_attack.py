"""Attacks of the foolbox library on a property (extra ``[attacks]``).

Foolbox attacks classifiers; the two-logit form of a property is one. Foolbox's word is not taken
for anything: its points are candidates, which :func:`relaxcert.attacks.confirm` proves or drops.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from relaxcert.attacks.margin_pgd import AttackResult
from relaxcert.attacks.two_logit import TwoLogit, confirm, two_logits
from relaxcert.errors import RelaxcertError
from relaxcert.heads.gloronet import GloRoNet
from relaxcert.spec.ball import Norm


class MissingFoolbox(RelaxcertError, ImportError):
    """foolbox is not installed."""


def foolbox_attack(
    net: GloRoNet,
    inputs: Tensor,
    attack_of: Callable[[Norm], Any] | None = None,
    *,
    seed: int = 0,
) -> AttackResult:
    """Attack the property of ``net`` with an attack of foolbox, and prove what it finds.

    Args:
        net: the network; attacked in float64 with its exact weights.
        inputs: the points, (batch, ...).
        attack_of: for the norm of a ball, the foolbox attack to run, such as
            ``lambda norm: foolbox.attacks.L2CarliniWagnerAttack(steps=200)``; it is called with
            the ball's radius as its epsilon. Default: foolbox's PGD in that norm.
        seed: of foolbox's random starts; the global random state is left as it was.

    Raises:
        MissingFoolbox: foolbox is not installed.
        InvalidInput: points with NaN or infinity; and the errors of ``certify``.
    """
    foolbox = _foolbox()
    centre = inputs.detach().double()
    candidates: list[Tensor] = []
    for module in two_logits(net, centre):
        norm = module.ball.norm
        chosen = _pgd(foolbox, norm) if attack_of is None else attack_of(norm)
        candidates.append(_run(foolbox, module, centre, chosen, seed))
    return confirm(net, centre, candidates)


def _run(foolbox: Any, module: TwoLogit, centre: Tensor, attack: Any, seed: int) -> Tensor:
    """What one attack finds for one target, in the ball as far as foolbox knows."""
    radius = float(module.ball.eps)
    # Foolbox clips to bounds; a property has none beyond its ball.
    bounds = (float(centre.min()) - radius, float(centre.max()) + radius)
    device = centre.device
    model = foolbox.PyTorchModel(module, bounds=bounds, device=device)
    labels = torch.zeros(len(centre), dtype=torch.long, device=device)
    cards = [device] if device.type == "cuda" else []
    with warnings.catch_warnings(), torch.random.fork_rng(devices=cards):
        warnings.simplefilter("ignore")  # of foolbox's own code
        torch.manual_seed(seed)
        _, clipped, _ = attack(model, centre, labels, epsilons=radius)
    return clipped


def _pgd(foolbox: Any, norm: Norm) -> Any:
    kinds = {
        "l2": foolbox.attacks.L2ProjectedGradientDescentAttack,
        "linf": foolbox.attacks.LinfProjectedGradientDescentAttack,
        "l1": foolbox.attacks.L1ProjectedGradientDescentAttack,
    }
    # Long enough to cross the ball twice: the random start may lie on the wrong side.
    return kinds[norm](rel_stepsize=0.05, steps=100)


def _foolbox() -> Any:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # old names of scipy in foolbox
            import foolbox  # pyright: ignore[reportMissingTypeStubs]
    except ImportError as error:
        raise MissingFoolbox(
            "foolbox is not installed, which this attack needs: pip install relaxcert[attacks]."
        ) from error
    return foolbox
