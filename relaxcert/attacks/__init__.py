"""Floor 5: attacks. Searching the ball for a point at which a property fails."""

from relaxcert.attacks.foolbox_attack import foolbox_attack
from relaxcert.attacks.margin_pgd import AttackResult, attack
from relaxcert.attacks.two_logit import TwoLogit, confirm, two_logits

__all__ = ["AttackResult", "TwoLogit", "attack", "confirm", "foolbox_attack", "two_logits"]
