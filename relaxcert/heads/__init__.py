"""Floor 3: property x bound -> verdict. The head, the network that carries it, certificates."""

from relaxcert.heads.certificates import Certificates, concatenate
from relaxcert.heads.gloronet import GloRoNet
from relaxcert.heads.head import compile_property

__all__ = ["Certificates", "GloRoNet", "compile_property", "concatenate"]
