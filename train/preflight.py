"""All that can be refused of a run before a framework is imported and hours are spent."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Literal

from train.capacity import check_capacity, check_threads
from train.config import ConfigError, TorchConfig, TrainConfig, ZeroConfig
from train.data_parallel import check_world_size
from train.publication import require_vacant

Framework = Literal["flax", "torch"]


def check_run(
    config: TrainConfig, output_dir: Path, *, framework: Framework, world_size: int
) -> None:
    """Checks that `framework` can train as `config` says, and where to the artifact would go.

    Raises:
        ConfigError: The configuration asks for something that is not done, or not here.
        ArtifactError: `output_dir` is taken or cannot be written.
    """
    check_world_size(config, world_size)
    _CHECKS[framework](config, world_size)
    check_capacity(config, world_size)
    require_vacant(output_dir)


def _check_flax(config: TrainConfig, world_size: int) -> None:
    if config.torch != TorchConfig():
        raise ConfigError("torch: only //train:torch heeds this section; remove it")
    if config.zero != ZeroConfig():
        raise ConfigError("zero: only //train:torch heeds this section; remove it")


def _check_torch(config: TrainConfig, world_size: int) -> None:
    launched = os.environ.get("WORLD_SIZE", "1")
    if launched != "1":
        raise ConfigError(
            f"WORLD_SIZE is {launched}, but this trainer starts its processes itself; start it "
            f"without a distributed launcher, with --nproc {launched}"
        )
    check_threads(config)
    if config.optimizer.name == "sophia" and config.gradient_compression.enabled:
        raise ConfigError(
            "gradient_compression.enabled: with optimizer.name 'sophia' only //train:flax does it; "
            "here the gradients that estimate curvature would get what others carry over"
        )


_CHECKS: dict[Framework, Callable[[TrainConfig, int], None]] = {
    "flax": _check_flax,
    "torch": _check_torch,
}
