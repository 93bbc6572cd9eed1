"""Who trains: our backends as the trainers use them, and plain networks."""

from collections.abc import Callable
from typing import Any

import jax
import torch
from flax import nnx

from benchmarks.networks import cases, flax_networks, plain_flax, plain_torch, torch_networks
from models.context import Context
from models.flax.weights import from_canonical as flax_network
from models.flax.weights import load_weights, with_statistics
from models.torch.weights import from_canonical as torch_network
from models.weights import Weights
from train.backends.deepspeed_backend import DeepSpeedBackend
from train.backends.flax_backend import FlaxBackend
from train.config.schema import TrainConfig
from train.launch.process_group import join_alone
from train.recipe import Batch, step_scalars

# Trains by a batch, and returns the loss before; it may only have been queued.
Side = Callable[[Batch], Any]

# Of the machine; a run may ask for others.
_NUM_THREADS = torch.get_num_threads()


def sides(framework: str, network: str, config: TrainConfig, weights: Weights) -> dict[str, Side]:
    """Returns ours, our network alone and the plain one, each with a copy of the weights.

    In PyTorch the plain one in DeepSpeed, too. All use as many threads as the run says.
    """
    of_framework = _flax_sides if framework == cases.FLAX else _torch_sides
    return of_framework(network, config, weights)


def plain_loop_step(framework: str, config: TrainConfig, weights: Weights) -> Side:
    """Returns a plain step of our network; see `sides`."""
    if framework == cases.FLAX:
        alone = flax_network(config.model, weights)
        return _of_batch(plain_flax.trainer(alone, config, _apply_flax))
    join_alone()
    torch.set_num_threads(_NUM_THREADS)
    network = torch_network(config.model, weights)
    return _of_batch(plain_torch.trainer(network, config, _apply_torch))


def _flax_sides(network: str, config: TrainConfig, weights: Weights) -> dict[str, Side]:
    plain = _plain_flax(network, weights)
    return {
        cases.OURS: _run(FlaxBackend(config, 1), config, weights),
        cases.NETWORK_ALONE: plain_loop_step(cases.FLAX, config, weights),
        cases.PLAIN: _of_batch(plain_flax.trainer(plain, config)),
    }


def _torch_sides(network: str, config: TrainConfig, weights: Weights) -> dict[str, Side]:
    join_alone()
    torch.set_num_threads(_NUM_THREADS)
    in_deepspeed = _plain_torch(network, weights)
    # The layout in which convolutions are faster on a CPU; DeepSpeed takes no weights in it.
    plain = _plain_torch(network, weights).to(memory_format=torch.channels_last)
    return {
        cases.OURS: _run(DeepSpeedBackend(config), config, weights),
        cases.NETWORK_ALONE: plain_loop_step(cases.TORCH, config, weights),
        cases.PLAIN_DEEPSPEED: _of_batch(plain_torch.deepspeed_trainer(in_deepspeed, config)),
        cases.PLAIN: _of_batch(plain_torch.trainer(plain, config)),
    }


def _run(backend: FlaxBackend | DeepSpeedBackend, config: TrainConfig, weights: Weights) -> Side:
    backend.start(weights)
    assert config.run.num_steps is not None
    scalars = step_scalars(config, config.run.num_steps)(0)  # the same in all steps
    return lambda batch: backend.step(batch, scalars).loss


def _of_batch(run: plain_flax.Step | plain_torch.Step) -> Side:
    return lambda batch: run(batch.inputs, batch.targets)[0]


def _apply_flax(network: Any, inputs: jax.Array) -> tuple[jax.Array, nnx.State[Any, Any]]:
    context = Context(train=True)
    outputs = network(inputs, context)
    statistics = nnx.state(network, nnx.BatchStat)
    return outputs, with_statistics(statistics, context.sown.statistics)


def _apply_torch(network: torch.nn.Module, inputs: torch.Tensor) -> torch.Tensor:
    context = Context(train=True)
    outputs: torch.Tensor = network(inputs, context)
    for name, new in context.sown.statistics.items():
        network.get_buffer(name).copy_(new)
    return outputs


def _plain_flax(network: str, weights: Weights) -> nnx.Module:
    # Flax's batch norm has other names for its statistics.
    renamed = {name.replace(".running_", "."): value for name, value in weights.items()}
    return load_weights(flax_networks.NETWORKS[network], renamed)


def _plain_torch(network: str, weights: Weights) -> torch.nn.Module:
    module = torch_networks.NETWORKS[network]()
    # PyTorch's batch norm counts batches, too.
    tensors = {name: torch.tensor(value) for name, value in weights.items()}
    module.load_state_dict(module.state_dict() | tensors)
    return module
