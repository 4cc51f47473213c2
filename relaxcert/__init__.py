"""relaxcert: state what a classifier must guarantee, train it in, and prove it.

A property is a frozen value; everything else (head, proof, file, test, attack) is compiled from it.
"""

from relaxcert.heads import Certificates, GloRoNet
from relaxcert.heads.model_file import load_model, save_model
from relaxcert.spec import Affinity, AffinitySets, Local, RelaxedTopK, Targeted, TopK
from relaxcert.spec.catalogue import load_property
from relaxcert.training import evaluate, fit

__version__ = "0.1.0"

__all__ = [
    "Affinity",
    "AffinitySets",
    "Certificates",
    "GloRoNet",
    "Local",
    "RelaxedTopK",
    "Targeted",
    "TopK",
    "evaluate",
    "fit",
    "load_model",
    "load_property",
    "save_model",
]
