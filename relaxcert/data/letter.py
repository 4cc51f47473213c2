"""Letter Recognition: 20,000 capitals in many fonts, described by 16 features; ships, 164 kB.

D. Slate 1991, UCI Machine Learning Repository, CC BY 4.0; this copy from the R package mlbench.
The usual split: the first 16,000 rows train, the last 4,000 test. 380 test rows also occur in the
training rows; they are kept, as everywhere, and results on this data should say so.
"""

from __future__ import annotations

from importlib import resources
from typing import Literal

import numpy as np
import torch

from relaxcert.data.landsat import Split
from relaxcert.errors import InvalidInput

CLASS_NAMES = tuple("ABCDEFGHIJKLMNOPQRSTUVWXYZ")
TRAIN_ROWS = 16_000
_FIT_ROWS = 13_000


def letter(part: Literal["train", "test", "fit", "validation"]) -> Split:
    """The usual train (16,000) or test (4,000) part; inputs are the features / 15, in [0, 1].

    ``fit`` and ``validation`` divide the train part at row 13,000, for choosing recipes without
    the test part.
    """
    with resources.files("relaxcert.data").joinpath("letter.npz").open("rb") as file:
        arrays = np.load(file, allow_pickle=False)
        inputs = torch.from_numpy(arrays["x"].astype(np.float32)) / 15.0
        labels = torch.from_numpy(arrays["y"].astype(np.int64))
    chosen = {
        "train": slice(0, TRAIN_ROWS),
        "test": slice(TRAIN_ROWS, None),
        "fit": slice(0, _FIT_ROWS),
        "validation": slice(_FIT_ROWS, TRAIN_ROWS),
    }
    if part not in chosen:
        raise InvalidInput(f"part={part!r} must be one of {', '.join(chosen)}.")
    return Split(inputs[chosen[part]], labels[chosen[part]], CLASS_NAMES)
