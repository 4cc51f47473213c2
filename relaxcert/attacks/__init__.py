"""Floor 5: attacks. Searching the ball for a point at which a property fails."""

from relaxcert.attacks.margin_pgd import AttackResult, attack

__all__ = ["AttackResult", "attack"]
