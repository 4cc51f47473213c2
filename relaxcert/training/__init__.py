"""Floor 4: training. Losses, schedules, recipes and the loop."""

from relaxcert.training.evaluation import Figures, evaluate
from relaxcert.training.history import Epoch, History
from relaxcert.training.loop import fit
from relaxcert.training.losses import certified_set, cross_entropy, trades
from relaxcert.training.recipe import Optimisation, Recipe, load_recipe, recipes

__all__ = [
    "Epoch",
    "Figures",
    "History",
    "Optimisation",
    "Recipe",
    "certified_set",
    "cross_entropy",
    "evaluate",
    "fit",
    "load_recipe",
    "recipes",
    "trades",
]
