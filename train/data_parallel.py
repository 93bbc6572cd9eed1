"""What training on several ranks asks of a configuration, the same for both frameworks."""

from base.seeds import seed_of
from comm.compression import Compression
from comm.wire import Wire
from kernels.quantize import contract
from train.config.schema import ConfigError, GradientCompressionConfig, TrainConfig
from train.events import Communicated


def check_world_size(config: TrainConfig, world_size: int) -> None:
    """Checks that `world_size` ranks can share the run.

    Raises:
        ConfigError: They cannot; the message names the key.
    """
    batch_size, micro_batches = (
        config.data.global_batch_size,
        config.data.gradient_accumulation_steps,
    )
    unit = config.data.describe().unit
    if batch_size % world_size:
        raise ConfigError(
            f"data.global_batch_size: {batch_size} {unit} cannot be shared equally by the "
            f"{world_size} ranks of --nproc {world_size}; change one of the two"
        )
    share = batch_size // world_size
    if share % micro_batches:
        raise ConfigError(
            f"data.gradient_accumulation_steps: the {share} {unit} of a rank do not make "
            f"{micro_batches} equal micro-batches; expected a divisor of {share}"
        )
    least = config.model.network.min_batch_size(config.model.config)
    if share // micro_batches < least:
        parts = world_size * micro_batches
        raise ConfigError(
            f"data.global_batch_size: {batch_size} {unit} in {parts} parts, ranks times "
            f"data.gradient_accumulation_steps, are fewer at once than the {least} that "
            f"model.config needs in training; expected at least {least * parts}"
        )
    _check_compression(config.gradient_compression, world_size)


def _check_compression(section: GradientCompressionConfig, world_size: int) -> None:
    if not section.enabled:
        return
    if world_size == 1:
        raise ConfigError(
            "gradient_compression.enabled: one rank alone sends no gradients; start more with "
            "--nproc 2, or leave it out"
        )
    if section.ranks_per_node is not None and world_size % section.ranks_per_node:
        raise ConfigError(
            f"gradient_compression.ranks_per_node: {world_size} ranks do not make whole nodes of "
            f"{section.ranks_per_node}; expected a divisor of {world_size}"
        )


def rank_slice(config: TrainConfig, rank: int, world_size: int) -> slice:
    """Returns which examples of a global batch are those of `rank`."""
    size = config.data.global_batch_size // world_size
    return slice(rank * size, (rank + 1) * size)


def ranks_per_node(config: TrainConfig) -> int:
    """Returns how many ranks exchange full precision among themselves; 1: none do."""
    section = config.gradient_compression
    return (section.ranks_per_node or 1) if section.enabled else 1


def compression_of(config: TrainConfig) -> Compression | None:
    """Returns how the run's gradients are compressed, or None if they are not."""
    section = config.gradient_compression
    if not section.enabled:
        return None
    return Compression(
        codec=contract.codec(
            section.format, block_size=section.block_size, rounding=section.rounding
        ),
        error_feedback=section.error_feedback,
        min_size=section.min_size,
        bucket_bytes=section.bucket_bytes,
        ranks_per_node=section.ranks_per_node,
        seed=seed_of(config.run.seed, "gradient rounding"),
    )


def communication_report(config: TrainConfig, wire: Wire, num_steps: int) -> Communicated:
    """Reports what one rank has sent in a run of so many steps."""
    return Communicated(
        bytes_per_step=wire.sent_bytes / num_steps,
        ratio=wire.ratio,
        description=_describe(config.gradient_compression),
    )


def _describe(section: GradientCompressionConfig) -> str:
    parts = [section.format, f"blocks of {section.block_size}"]
    if section.rounding != "nearest":
        parts.append(f"{section.rounding} rounding")
    parts.append("error feedback" if section.error_feedback else "no error feedback")
    if section.ranks_per_node is not None:
        parts.append(f"full precision within nodes of {section.ranks_per_node}")
    return f"gradient compression: {', '.join(parts)}"
