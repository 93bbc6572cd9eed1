"""A run short enough for tests, and what it publishes."""

from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path

import numpy as np

from train.config.load import load_config
from train.config.schema import TrainConfig
from train.evaluation import Evaluation
from train.publication import Publication, publish_model

PRESETS_DIR = Path(__file__).parent.parent.parent / "config"


def short_config(
    *, num_steps: int, log_every_steps: int = 1, **sections: dict[str, object]
) -> TrainConfig:
    """Returns the preset with few steps and one block, and with `sections` updated by key.

    What PyTorch alone heeds has its defaults.
    """
    content = load_config(PRESETS_DIR / "digits.yaml").model_dump()
    content |= {"zero": {}, "torch": {}}
    content["run"] |= {"num_steps": num_steps, "log_every_steps": log_every_steps}
    content["schedule"] |= {"warmup_steps": num_steps // 2}
    # XLA compiles the longer the more blocks there are; and as in large models, next to all weights
    # are those of matrices.
    content["model"]["config"]["num_blocks"] = 1
    content["model"]["config"]["feed_forward"]["hidden_ratio"] = 8.0
    for section, changes in sections.items():
        content[section] |= changes
    return TrainConfig.model_validate(content)


def publish_untrained(
    config: TrainConfig, weights: Mapping[str, np.ndarray], directory: Path
) -> Publication:
    """Publishes weights as if one step had given them."""
    return publish_model(
        directory,
        config,
        weights,
        Evaluation({"accuracy": 0.5}, {"accuracy": (0.25, 0.75)}, 8, 8, {}),
        framework="flax",
        libraries={},
        environment={},
        device="cpu",
        data_digest="0" * 64,
        started_at=datetime.now(UTC),
        num_steps=1,
    )
