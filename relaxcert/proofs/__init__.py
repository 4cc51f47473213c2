"""Proof objects: certificates in a file, with what an independent checker needs to re-check them.

The file format is described in docs/soundness.md; ``relaxcert.checker`` reads it and shares no
code with anything here.
"""

from relaxcert.proofs.segments import check_provable
from relaxcert.proofs.writing import write_proof

__all__ = ["check_provable", "write_proof"]
