"""How much memory one step of training takes at its peak, in each framework.

What stays is not counted: weights, the batch, and the gradients of weights, which grow with the
number of blocks however activations are kept. PyTorch's are freed as soon as they are whole, as by
an optimizer that runs in the backward pass; XLA's are results and not temporary.
"""

import os

# Read by torch while it is imported: without it, its profiler tells of itself.
os.environ.setdefault("KINETO_LOG_LEVEL", "99")

import jax
import jax.numpy as jnp
import numpy as np
import torch
from flax import nnx
from torch.profiler import ProfilerActivity, profile

from benchmarks.memory.cases import BATCH_SIZE, Way
from models.architecture import Model, parse_model
from models.context import Context

_SEEDS = np.arange(BATCH_SIZE, dtype=np.int32)

# What is planned does not depend on how well machine code is made of it, but takes less time.
_COMPILER_OPTIONS = {
    "xla_backend_optimization_level": 0,
    "xla_llvm_disable_expensive_passes": True,
}


def torch_peak_bytes(way: Way, depth: int) -> int:
    """Returns the most that PyTorch's allocator has given out at once, of a step's own."""
    model = parse_model(way.architecture, way.config(depth))
    module = model.network.torch(model.config)
    for param in module.parameters():
        param.register_post_accumulate_grad_hook(_free_gradient)
    inputs = torch.tensor(_inputs(model))

    def step() -> None:
        context = Context(train=True, seeds=torch.tensor(_SEEDS), checkpointing=way.checkpointing)
        module(inputs, context).square().sum().backward()

    step()  # what is allocated once and kept
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiler:
        step()
    events = profiler.profiler.kineto_results.events()
    changes = sorted((e.start_ns(), e.nbytes()) for e in events if e.name() == "[memory]")
    return int(np.cumsum([size for _, size in changes]).max())


def jax_peak_bytes(way: Way, depth: int) -> int:
    """Returns the temporary memory of a compiled step, as XLA has planned it."""
    model = parse_model(way.architecture, way.config(depth))
    graph, params, rest = nnx.split(model.network.flax(model.config), nnx.Param, ...)

    def loss(params: nnx.State, rest: nnx.State, inputs: jax.Array, seeds: jax.Array) -> jax.Array:
        context = Context(train=True, seeds=seeds, checkpointing=way.checkpointing)
        return jnp.square(nnx.merge(graph, params, rest)(inputs, context)).sum()

    lowered = jax.jit(jax.grad(loss)).lower(params, rest, _inputs(model), _SEEDS)
    plan = lowered.compile(compiler_options=_COMPILER_OPTIONS).memory_analysis()
    return int(plan.temp_size_in_bytes)


def _inputs(model: Model) -> np.ndarray:
    spec = model.signature.input
    return np.zeros((BATCH_SIZE, *spec.shape), spec.dtype)


def _free_gradient(param: torch.Tensor) -> None:
    param.grad = None
