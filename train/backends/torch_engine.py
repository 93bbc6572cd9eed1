"""DeepSpeed's engine around a model: how it is set up, and how it clips."""

import warnings
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from itertools import chain
from pathlib import Path

import deepspeed
from deepspeed.runtime.zero.utils import ZERO_SUPPORTED_OPTIMIZERS
from torch import distributed, nn

from optim.torch.optimizer import Optimizer
from train.backends.nvme.ops import use_compiled_operations
from train.backends.nvme.scratch import scratch_directory
from train.config.deepspeed import engine_config
from train.config.schema import ConfigError, TrainConfig

# Deprecations inside DeepSpeed are its own business, and stage 3 would print one a collective.
warnings.filterwarnings("ignore", r"`torch\.distributed\.\w+` is deprecated", FutureWarning)

# DeepSpeed compiles C++ for its shared-memory collectives at start-up, into the home directory,
# in about a minute. They serve multi-process inference; no training step calls them.
deepspeed.ops.__compatible_ops__ = {}

# It warns of optimizers that it does not know. Ours is tested under every stage.
ZERO_SUPPORTED_OPTIMIZERS.append(Optimizer)


def start_engine(
    model: nn.Module,
    optimizer: Optimizer,
    config: TrainConfig,
    files: Mapping[str, Path],
) -> deepspeed.DeepSpeedEngine:
    """Wraps model and optimizer in an engine that partitions them as `config.zero` says.

    Collective: every rank of the process group, which must have been joined, calls it.

    Args:
        model: The network; moved to the engine's device.
        optimizer: Over the model's parameters.
        config: The run.
        files: Of `offload_files`.

    Reference: Rajbhandari et al., "ZeRO", https://arxiv.org/abs/1910.02054.
    """
    given = engine_config(config, distributed.get_world_size())
    for section, directory in files.items():
        given["zero_optimization"][section]["nvme_path"] = str(directory)
    if "offload_param" in files:
        # The engine would do the same, and on a CPU keep the weights in bfloat16.
        deepspeed.zero.Init(module=model, config_dict_or_path=given, remote_device="nvme")
    engine, *_ = deepspeed.initialize(model=model, optimizer=optimizer, config=given)
    if config.zero.stage == 0 and distributed.get_world_size() == 1:
        # A rank alone has the mean already. DeepSpeed would copy all gradients into one buffer,
        # reduce that with nobody and copy them back, which takes as long as a small network does.
        engine.enable_backward_allreduce = False
    return engine


@contextmanager
def offload_files(config: TrainConfig) -> Iterator[dict[str, Path]]:
    """Yields, by key of `config.zero`, where this rank keeps in files what is offloaded to them.

    Raises:
        ConfigError: It cannot there.
    """
    with ExitStack() as stack:
        found = {}
        for key in ("offload_optimizer", "offload_param"):
            path = getattr(config.zero, key).nvme_path
            if path is None:
                continue
            use_compiled_operations()
            try:
                found[key] = stack.enter_context(scratch_directory(Path(path)))
            except OSError as error:
                raise ConfigError(
                    f"zero.{key}.nvme_path: expected a directory that can be written, got "
                    f"{path!r}: {error.strerror}"
                ) from error
        yield found


@contextmanager
def clipping_values(optimizer: Optimizer, limit: float | None) -> Iterator[None]:
    """Limits each number in a gradient, of either sign, when the optimizer takes it.

    There it is the mean over ranks and micro-batches under every stage, of whatever partition this
    rank steps, and no longer than the norm by which DeepSpeed clips.
    """

    def clip(*_: object) -> None:
        params = chain.from_iterable(group["params"] for group in optimizer.param_groups)
        nn.utils.clip_grad_value_(params, limit)

    if limit is None:
        yield
        return
    with optimizer.register_step_pre_hook(clip):
        yield


@contextmanager
def without_clipping(engine: deepspeed.DeepSpeedEngine) -> Iterator[None]:
    """Leaves gradients as long as they are; what clips them, the engine or ZeRO's optimizer."""
    config, optimizer = engine._config, engine.optimizer
    limit = config.gradient_clipping
    config.gradient_clipping = optimizer.clip_grad = 0.0
    try:
        yield
    finally:
        config.gradient_clipping = optimizer.clip_grad = limit
