"""Every error and warning that relaxcert raises on purpose: the whole vocabulary.

Each message names the argument or field, the value, what was expected and what to do.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class RelaxcertError(Exception):
    """Base of all errors raised by relaxcert."""


class InvalidProperty(RelaxcertError, ValueError):
    """A property or affinity set is not well formed."""


class VacuousProperty(InvalidProperty):
    """A property that every network fulfils, or none: refused, because proving it says nothing."""


class DocumentError(RelaxcertError, ValueError):
    """A property or recipe document cannot be read; names file, field and remedy."""


class UnsupportedLayer(RelaxcertError, TypeError):
    """A module has no Lipschitz rule, so no bound on it is known; names its path."""


class UnsupportedPrecision(RelaxcertError, TypeError):
    """Arithmetic in which no guarantee is given (half precision, TF32, autocast)."""


class InvalidWeights(RelaxcertError, ValueError):
    """Weights that are empty, NaN or infinite: no bound exists."""


class StaleBounds(RelaxcertError, RuntimeError):
    """Verified bounds are missing where they cannot be computed on the fly (compiled code)."""


class InvalidInput(RelaxcertError, ValueError):
    """An argument (tensor, label, number) that does not fit; names it and what was expected."""


class DataError(RelaxcertError, ValueError):
    """A data file that cannot be used; names file, field and remedy."""


class ModelFileError(RelaxcertError, ValueError):
    """A model file that cannot be read or does not belong here."""


class MissingExtra(RelaxcertError, ImportError):
    """An optional dependency is not installed; names the extra that brings it."""


class UnsupportedOperator(ModelFileError):
    """A network file holds an operator that is not known; names the node."""


class TrainingError(RelaxcertError, RuntimeError):
    """Training cannot go on (for example a loss that is NaN); names the step."""


class UncoveredClassWarning(UserWarning):
    """A class lies in no affinity set: points predicted as it can never be certified."""


class OutOfRangeWarning(UserWarning):
    """Inputs outside the region that a network was made for, such as angles in degrees."""


class CacheWarning(UserWarning):
    """A cached result is damaged, or cannot be kept: it is computed anew."""


def suggestion(word: str, known: Iterable[str]) -> str:
    """Return `` Did you mean 'x'?`` for the nearest known word, or an empty string."""
    near = difflib.get_close_matches(word, list(known), n=1)
    return f" Did you mean {near[0]!r}?" if near else ""
