"""Says which DeepSpeed engines gradients can be compressed in, and why not in the others."""

import inspect
from collections.abc import Callable, Iterator

import deepspeed
import torch
from deepspeed.runtime.bf16_optimizer import BF16_Optimizer
from deepspeed.runtime.fp16.fused_optimizer import FP16_Optimizer
from deepspeed.runtime.fp16.unfused_optimizer import FP16_UnfusedOptimizer
from deepspeed.runtime.zero.stage3 import DeepSpeedZeroOptimizer_Stage3
from deepspeed.runtime.zero.stage_1_and_2 import DeepSpeedZeroOptimizer

from comm.compression import Compression

TESTED_VERSION = "0.19.8"

# A class's own private methods, as seen from outside.
STAGE_3_SCATTER = "_DeepSpeedZeroOptimizer_Stage3__avg_scatter_grads"


class UnsupportedEngineError(ValueError):
    """Gradients of this engine cannot be compressed; the message says why and what to change."""


def check_engine(engine: deepspeed.DeepSpeedEngine, compression: Compression) -> None:
    """Raises UnsupportedEngineError, with all reasons, unless the engine can be compressed."""
    problems = [*_problems(engine, compression)] or [*_seam_problems(engine)]
    if problems:
        listed = "".join(f"\n  - {problem}" for problem in problems)
        raise UnsupportedEngineError(
            f"gradients of this DeepSpeed {deepspeed.__version__} engine, ZeRO stage "
            f"{engine.zero_optimization_stage()}, cannot be compressed:{listed}"
        )


def _problems(engine: deepspeed.DeepSpeedEngine, compression: Compression) -> Iterator[str]:
    zero = engine._config.zero_config
    stage = engine.zero_optimization_stage()
    checks: tuple[tuple[bool, str], ...] = (
        (engine.pipeline_parallelism, "pipeline parallelism reduces gradients by itself"),
        (engine.has_moe_layers, "mixture of experts: experts have groups of their own"),
        (engine.sequence_parallel_size > 1, "sequence parallelism: sequence_parallel_size > 1"),
        (engine.mp_world_size > 1, "model parallelism: the mpu has groups of its own"),
        (engine.is_deepcompile_enabled(), "compile.deepcompile reduces gradients in the graph"),
        (bool(engine.zenflow), "zero_optimization.zenflow: leave it out"),
        (
            not engine.enable_backward_allreduce,
            "1-bit optimizers compress by themselves: choose another optimizer",
        ),
        (
            engine.zero_quantized_gradients(),
            "zero_optimization.zero_quantized_gradients is another compression: set it to false",
        ),
        (
            engine.zero_hpz_partition_size() > 1,
            "zero_optimization.zero_hpz_partition_size: set it to 1",
        ),
        (
            engine.torch_autocast_enabled() and engine.torch_autocast_dtype() == torch.float16,
            "torch_autocast in float16 scales the loss where it cannot be seen: use bfloat16",
        ),
        (
            stage == 0 and engine.fp16_enabled(),
            "fp16 under stage 0: DeepSpeed divides gradients by a loss scale that it did not "
            "multiply the loss by; choose stage 1 to 3, or bf16",
        ),
        (
            stage in (1, 2) and not zero.contiguous_gradients,
            "zero_optimization.contiguous_gradients is false: set it to true",
        ),
        (
            stage == 3 and not zero.reduce_scatter,
            "zero_optimization.reduce_scatter is false: set it to true",
        ),
        (
            any(getattr(p, "use_muon", False) for p in engine.module.parameters()),
            "Muon needs whole gradients where they are partitioned: choose another optimizer",
        ),
        (
            stage > 0 and compression.ranks_per_node not in (None, 1),
            "ranks_per_node: only stage 0 has an exchange on two levels, leave it out",
        ),
        (
            "gradient_compression" in vars(engine),
            "they already are: close the first compression before starting another",
        ),
    )
    yield from (reason for applies, reason in checks if applies)


def _seam_problems(engine: deepspeed.DeepSpeedEngine) -> Iterator[str]:
    optimizer = engine.optimizer
    if type(optimizer) is DeepSpeedZeroOptimizer_Stage3:
        parameters = ["params_to_reduce", "communication_data_type"]
        yield from _signature_problems(optimizer, STAGE_3_SCATTER, parameters)
    elif type(optimizer) is DeepSpeedZeroOptimizer:
        parameters = ["tensor", "communication_data_type"]
        yield from _signature_problems(optimizer, "gradient_reduction_w_predivide", parameters)
    elif optimizer is engine.basic_optimizer or type(optimizer) in (
        BF16_Optimizer,
        FP16_Optimizer,
        FP16_UnfusedOptimizer,
    ):
        parameters = ["bucket", "dp_group", "dp_world_size"]
        yield from _signature_problems(engine, "allreduce_bucket", parameters)
    else:
        yield f"its optimizer is a {type(optimizer).__name__}, whose reduction is not known here"


def _signature_problems(owner: object, name: str, parameters: list[str]) -> Iterator[str]:
    method: Callable[..., object] | None = getattr(owner, name, None)
    found = [] if method is None else list(inspect.signature(method).parameters)
    # What a decorator of DeepSpeed's wraps does not tell its parameters.
    if found not in (parameters, ["args", "kwargs"]):
        has = "does not have it" if method is None else f"has {name}({', '.join(found)})"
        yield (
            f"gradients pass through {name}({', '.join(parameters)}) in DeepSpeed "
            f"{TESTED_VERSION}, and this version {has}: install {TESTED_VERSION}"
        )
