"""The weights of learned positions."""

from models.initializers import normal
from models.layers.positions.config import LearnedPositionsConfig
from models.network import Weight


def learned_positions(
    config: LearnedPositionsConfig, seq_len: int, width: int
) -> dict[str, Weight]:
    """Returns `weight [seq_len, width]`, normal."""
    return {"weight": Weight((seq_len, width), normal(config.stddev))}
