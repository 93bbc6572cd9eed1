"""Compressed gradients inside DeepSpeed, under ZeRO stages 0 to 3, without a change in model code.

    engine, *_ = deepspeed.initialize(model=model, config=config, ...)
    compression = compress_gradients(engine, Compression())
    ...                                              # train, save and load as ever
    print(compression.wire.ratio)

In each stage one method turns the local gradients of a bucket into means. It is replaced on this
one engine or optimizer; nothing else of DeepSpeed is, and torch.distributed is not.

    stage 0, and    DeepSpeedEngine.allreduce_bucket(bucket, dp_group, dp_world_size)
    stage 1 with    gets a list of gradients and returns their means as one flat tensor, which the
    bf16 and fp32   caller copies back. Every rank needs all of them: 8 bits there and 8 bits back.
    accumulation

                    Under stage 0 `ranks_per_node` makes it float32 inside a node and 8 bits between
                    nodes; the other stages refuse it.

    stages 1, 2     DeepSpeedZeroOptimizer.gradient_reduction_w_predivide(tensor, dtype)
                    gets the flat bucket and leaves the means in it. DeepSpeed takes this way when
                    its option reduce_scatter is off, so compression turns that off: what it stands
                    for, that a rank gets no more than it needs, the all-to-all does anyway. A rank
                    gets the means of its own partition, in 8 bits once; around the call DeepSpeed
                    still orders streams, and accumulates and offloads partitions.

    stage 3         DeepSpeedZeroOptimizer_Stage3.__avg_scatter_grads(params, dtype)
                    gets parameters with whole gradients and returns a partition of each.

What follows from where these are:
- Stages 0 and 1 reduce once a step, at the boundary of gradient accumulation. Stages 2 and 3 reduce
  every micro-batch, and so each micro-batch is compressed and what it lost is in the next one.
- The mean is the mean: prescale_gradients and gradient_predivide_factor guard a float16 sum against
  overflow, and sums here are float32. `gradient_allreduce_op: sum` is kept.
- Clipping, overflow checks and the optimizer come after, and see means like any others. A block
  with a NaN or an infinity arrives as NaN, so that DeepSpeed skips the step; its residual stays.
- Biases, norms and small tensors travel as they are, in the `communication_data_type`, in the same
  collective as the codes.
- `engine.save_checkpoint` and `load_checkpoint` carry the residuals.

With one rank there is nothing to send, and nothing is changed.
"""

import inspect
from collections.abc import Callable, Sequence
from typing import Any

import deepspeed
import torch
from deepspeed.runtime.bf16_optimizer import BF16_Optimizer
from deepspeed.runtime.zero.stage3 import DeepSpeedZeroOptimizer_Stage3
from deepspeed.runtime.zero.stage_1_and_2 import DeepSpeedZeroOptimizer
from torch import distributed

from comm.compression import Compression
from comm.torch import agreement, exchange
from comm.torch.collectives import all_reduce_vectors
from comm.torch.parts import Plan
from comm.torch.residuals import Residuals
from comm.torch.vectors import Share, Vector, even_shares, for_even_owners, for_owners
from comm.torch.zero_checkpoint import load_residuals, loss_scale, save_residuals
from comm.torch.zero_support import STAGE_3_SCATTER, check_engine
from comm.wire import Wire


class ZeroCompression:
    """The compression of one engine's gradients, until `close`.

    Attributes:
        wire: Bytes that this rank has sent of gradients.
        residuals: What quantization has lost so far.
    """

    def __init__(self, engine: deepspeed.DeepSpeedEngine, compression: Compression) -> None:
        """Replaces nothing yet; see `compress_gradients`."""
        self.wire = Wire()
        self._engine = engine
        self._compression = compression
        self._names = {param: name for name, param in engine.module.named_parameters()}
        shapes = {name: tuple(_shape(param)) for param, name in self._names.items()}
        self.residuals = Residuals(shapes, compression)
        self._first_step = engine.global_steps
        self._undo: list[Callable[[], None]] = []

    def close(self) -> None:
        """Gives the engine its own reduction back. The residuals stay readable."""
        while self._undo:
            self._undo.pop()()

    def replace(self, target: object, name: str, value: object) -> None:
        """Sets an attribute until `close`."""
        missing = object()
        old = vars(target).get(name, missing)

        def restore() -> None:
            if old is missing:
                delattr(target, name)
            else:
                setattr(target, name, old)

        setattr(target, name, value)
        self._undo.append(restore)

    def plan(self, group: distributed.ProcessGroup) -> Plan:
        """Returns the plan of a reduction over a group, now."""
        engine = self._engine
        self.residuals.follow(loss_scale(engine))
        micro_batches = engine.gradient_accumulation_steps()
        return Plan(
            self._compression,
            group,
            average=engine.gradient_average,
            step=engine.global_steps * micro_batches + engine.micro_steps % micro_batches,
            wire=self.wire,
        )

    def vector(self, param: torch.Tensor, values: torch.Tensor, plain_dtype: torch.dtype) -> Vector:
        """Returns a parameter's gradient with its residuals."""
        return self.residuals.vector(self._names[param], values, plain_dtype)

    def agreement(
        self, collective: str, params: Sequence[torch.Tensor], vectors: Sequence[Vector], plan: Plan
    ) -> Callable[[], None]:
        """Compares what ranks are about to do; see `agreement.begin`."""
        # Ranks that fill their buckets otherwise do so from the start.
        if self._engine.global_steps != self._first_step or not vectors:
            return exchange.nothing
        names = ", ".join(self._names[param] for param in params)
        return agreement.begin(collective, vectors, plan, f", gradients of {names}")


def compress_gradients(
    engine: deepspeed.DeepSpeedEngine, compression: Compression
) -> ZeroCompression:
    """Makes an engine exchange its gradients in 8 bits from now on.

    Args:
        engine: As `deepspeed.initialize` returned it; on all ranks alike.
        compression: How.

    Returns:
        A handle that counts bytes and can undo this.

    Raises:
        UnsupportedEngineError: DeepSpeed's version or options; the message names them.
    """
    check_engine(engine, compression)
    handle = ZeroCompression(engine, compression)
    handle.replace(engine, "gradient_compression", handle)
    if distributed.get_world_size() == 1:
        return handle
    _carry_residuals(handle, engine)
    optimizer = engine.optimizer
    if type(optimizer) is DeepSpeedZeroOptimizer_Stage3:
        _compress_stage_3(handle, optimizer)
    elif type(optimizer) is DeepSpeedZeroOptimizer:
        _compress_stages_1_and_2(handle, optimizer)
    else:
        _compress_all_reduce(handle, engine)
    return handle


def _compress_all_reduce(handle: ZeroCompression, engine: deepspeed.DeepSpeedEngine) -> None:
    def allreduce_bucket(
        bucket: list[torch.Tensor],
        dp_group: distributed.ProcessGroup,
        dp_world_size: int | None = None,
    ) -> torch.Tensor:
        dtype = engine.communication_data_type
        flat = torch.cat([tensor.flatten() for tensor in bucket])
        means = _wide_enough(flat, dtype)
        params_in = _params_by_address(engine)
        params, vectors, start = [], [], 0
        for tensor in bucket:
            end = start + tensor.numel()
            for param in params_in[tensor.data_ptr()]:
                values = means[start : start + param.numel()]
                vectors.append(handle.vector(param, values, dtype))
                params.append(param)
                start += param.numel()
            start = end  # beyond what DeepSpeed appends to make groups divisible
        plan = handle.plan(dp_group)
        all_reduce_vectors(vectors, plan, handle.agreement("all_reduce", params, vectors, plan))
        return means.to(flat.dtype)

    handle.replace(engine, "allreduce_bucket", allreduce_bucket)


def _params_by_address(engine: deepspeed.DeepSpeedEngine) -> dict[int, list[torch.Tensor]]:
    """Returns the parameters whose gradients lie, in order, in what starts at an address."""
    optimizer = engine.optimizer
    if isinstance(optimizer, BF16_Optimizer):
        groups = zip(optimizer.fp32_groups_gradients_flat, optimizer.bf16_groups, strict=True)
        return {flat.data_ptr(): list(params) for flat, params in groups}
    params = engine.module.parameters()
    return {param.grad.data_ptr(): [param] for param in params if param.grad is not None}


def _wide_enough(values: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
    """Returns values in a dtype that holds them and means of what is sent in another dtype."""
    return values.to(torch.promote_types(values.dtype, dtype))


def _compress_stages_1_and_2(handle: ZeroCompression, optimizer: DeepSpeedZeroOptimizer) -> None:
    def gradient_reduction_w_predivide(
        tensor: torch.Tensor, communication_data_type: torch.dtype
    ) -> torch.Tensor:
        means = _wide_enough(tensor, communication_data_type)
        params, vectors, shares, start = [], [], [], 0
        for group, index, param_id in optimizer.ipg_buckets[communication_data_type].params:
            param = optimizer.bit16_groups[group][index]
            values = means[start : start + param.numel()]
            start += param.numel()
            params.append(param)
            vectors.append(handle.vector(param, values, communication_data_type))
            shares.append(_shares(optimizer, group, param_id, param.numel()))
        plan = handle.plan(optimizer.dp_process_group)
        agreed = handle.agreement("reduce_scatter", params, vectors, plan)
        parts = for_owners(zip(vectors, shares, strict=True), plan)
        exchange.reduce_scatter(parts, plan, agreed)
        if means is not tensor:
            tensor.copy_(means)
        return means

    handle.replace(optimizer, "reduce_scatter", False)
    handle.replace(optimizer, "gradient_reduction_w_predivide", gradient_reduction_w_predivide)


def _shares(optimizer: DeepSpeedZeroOptimizer, group: int, param_id: int, size: int) -> list[Share]:
    """Returns the partitions that a parameter of `size` values lies in."""
    starts = sorted(
        (int(optimizer.grad_start_offset[group][rank][param_id]), rank)
        for rank in optimizer.param_to_partition_ids[group][param_id]
    )
    stops = [start for start, _ in starts[1:]] + [size]
    return [Share(rank, start, stop) for (start, rank), stop in zip(starts, stops, strict=True)]


def _compress_stage_3(handle: ZeroCompression, optimizer: DeepSpeedZeroOptimizer_Stage3) -> None:
    def avg_scatter_grads(
        params_to_reduce: list[torch.Tensor], communication_data_type: torch.dtype
    ) -> list[torch.Tensor]:
        vectors = []
        for param in params_to_reduce:
            values = _wide_enough(param.grad.flatten(), communication_data_type)
            vectors.append(handle.vector(param, values, communication_data_type))
        plan = handle.plan(optimizer.dp_process_group)
        agreed = handle.agreement("reduce_scatter", params_to_reduce, vectors, plan)
        exchange.reduce_scatter(for_even_owners(vectors, plan), plan, agreed)
        own = [even_shares(v.size, plan.world_size)[plan.rank] for v in vectors]
        shares = [v.values[s.start : s.stop] for v, s in zip(vectors, own, strict=True)]
        return [share.to(optimizer.gradient_accumulation_dtype) for share in shares]

    handle.replace(optimizer, STAGE_3_SCATTER, avg_scatter_grads)


def _carry_residuals(handle: ZeroCompression, engine: deepspeed.DeepSpeedEngine) -> None:
    save_engine, load_engine = engine.save_checkpoint, engine.load_checkpoint

    def save_checkpoint(save_dir: str, tag: str | None = None, *args: Any, **options: Any) -> bool:
        tag = f"global_step{engine.global_steps}" if tag is None else str(tag)
        # Before the rest: when DeepSpeed writes the name of the latest checkpoint, all is there.
        save_residuals(save_dir, tag, handle.residuals, engine)
        return save_engine(save_dir, tag, *args, **options)

    def load_checkpoint(*args: Any, **options: Any) -> tuple[str | None, dict[str, Any] | None]:
        path, state = load_engine(*args, **options)
        if path is not None:
            given = inspect.signature(load_engine).bind(*args, **options)
            given.apply_defaults()
            fresh = given.arguments["load_module_only"]
            fresh = fresh or not given.arguments["load_optimizer_states"]
            load_residuals(path, handle.residuals, engine, fresh=fresh)
        return path, state

    handle.replace(engine, "save_checkpoint", save_checkpoint)
    handle.replace(engine, "load_checkpoint", load_checkpoint)


def _shape(param: Any) -> torch.Size:
    """Returns a parameter's shape, also where only a partition of it is here."""
    return torch.Size(getattr(param, "ds_shape", param.shape))
