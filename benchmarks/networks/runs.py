"""The presets' runs, changed to what a plain network can be trained beside."""

from pathlib import Path

from benchmarks.networks.cases import BYTES, CNN, DIGITS, MLP
from train.config.load import load_config
from train.config.schema import TrainConfig

_PRESETS_DIR = Path(__file__).parents[2] / "config"

# The learning rate stays where it is, and nothing is partitioned.
_LIKE_PLAIN = (
    "run.num_epochs=",
    "schedule={kind: warmup_cosine, final_fraction: 1.0}",
    "zero={}",
)
OF_NETWORK = {
    DIGITS: (),
    # Plain networks would drop others.
    MLP: ("model.config.dropout_rate=0.0",),
    # At rates as high, from the first step on, rounding errors would grow beyond comparison.
    CNN: ("optimizer.adamw.learning_rate=5e-4",),
    BYTES: ("optimizer.adamw.learning_rate=1e-3",),
}


def run_config(network: str, num_steps: int) -> TrainConfig:
    """Returns the run of a preset's network, as a plain one can be trained beside it."""
    overrides = (f"run.num_steps={num_steps}", *_LIKE_PLAIN, *OF_NETWORK[network])
    return load_config(_PRESETS_DIR / f"{network}.yaml", overrides)
