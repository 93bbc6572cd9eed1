"""All that can be refused of a run before a framework is imported and hours are spent."""

from collections.abc import Sequence
from pathlib import Path

from models.network import Framework
from registry.artifact import read_descriptor
from train.capacity import check_capacity, check_threads
from train.checkpoint.beginning import NEWEST, Beginning
from train.checkpoint.run_directory import check_run_directory
from train.config.overrides import in_words
from train.config.schema import ConfigError, TrainConfig
from train.data_parallel import check_world_size, ranks_per_node

# Sections that one framework alone heeds.
_HEEDED_BY: dict[str, Framework] = {"zero": "torch", "torch": "torch"}


def check_run(
    config: TrainConfig,
    output_dir: Path,
    *,
    framework: Framework,
    world_size: int,
    beginning: Beginning = NEWEST,
    is_first: bool = True,
) -> None:
    """Checks that `framework` can train as `config` says, and in this directory.

    Args:
        config: The run.
        output_dir: Of the run.
        framework: That trains.
        world_size: Ranks that share each batch.
        beginning: Where it begins.
        is_first: Whether this process is the first rank, which alone claims the directory.

    Raises:
        ArtifactError: There is none where it is to begin from.
        ConfigError: The configuration asks for something that is not done, or not here.
        RunDirectoryError: `output_dir` is of something else or in use, or cannot be written.
    """
    check_world_size(config, world_size)
    if framework == "torch":
        _check_torch(config)
    zero_stage = config.zero.stage if framework == "torch" else 0
    check_capacity(config, world_size, zero_stage)
    if not is_first:
        return
    origin = None if beginning.init_from is None else read_descriptor(beginning.init_from).digest
    check_run_directory(output_dir, config, framework, fresh=beginning.fresh, init_from=origin)


def check_overrides(overrides: Sequence[str], framework: Framework) -> None:
    """Refuses values given for this very run that `framework` would not heed.

    A file may have them: it is one for all frameworks.

    Raises:
        ConfigError: A section is another framework's.
    """
    for override in overrides:
        section = override.partition("=")[0].partition(".")[0].strip()
        heeded_by = _HEEDED_BY.get(section, framework)
        if heeded_by != framework:
            raise ConfigError(
                f"{in_words(override)}: only //train:{heeded_by} heeds this section; remove it"
            )


def _check_torch(config: TrainConfig) -> None:
    check_threads(config)
    every = config.callbacks.watch.compare_ranks_every_steps
    if every is not None and config.zero.stage == 3:
        raise ConfigError(
            f"callbacks.watch.compare_ranks_every_steps: {every} needs zero.stage 0, 1 or 2, got "
            "3, of which every rank has a part of the weights that no other has"
        )
    compression = config.gradient_compression
    if ranks_per_node(config) > 1 and config.zero.stage > 0:
        raise ConfigError(
            f"gradient_compression.ranks_per_node: {compression.ranks_per_node} needs zero.stage "
            f"0, got {config.zero.stage}: what ZeRO partitions has no exchange on two levels; "
            "change one of the two"
        )
    if config.optimizer.algorithm.uses_curvature and compression.enabled:
        raise ConfigError(
            f"gradient_compression.enabled: with optimizer.name {config.optimizer.name!r} only "
            "//train:flax does it; here the gradients that estimate curvature would get what "
            "others carry over"
        )
