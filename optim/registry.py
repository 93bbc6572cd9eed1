"""The optimizers by name."""

from typing import Any

from optim.adabelief import AdaBelief
from optim.adamw import AdamW
from optim.adan import Adan
from optim.algorithm import Algorithm
from optim.lion import Lion
from optim.sophia import Sophia

ALGORITHMS: dict[str, type[Algorithm]] = {
    kind.name: kind for kind in (AdaBelief, AdamW, Adan, Lion, Sophia)
}

# Of runs that name none.
DEFAULT = AdamW.name


def algorithm(name: str, **hyperparameters: Any) -> Algorithm:
    """Returns the optimizer of this name.

    Raises:
      ValueError: There is none, or it refuses a hyperparameter.
    """
    if name not in ALGORITHMS:
        raise ValueError(f"no optimizer is named {name!r}; accepted: {', '.join(ALGORITHMS)}")
    return ALGORITHMS[name](**hyperparameters)


# What DeepSpeed's configurations call them, in lower case; its Adam decays weights as AdamW does.
DEEPSPEED_TYPES = {"adam": "adamw", "adamw": "adamw", "lion": "lion"}
