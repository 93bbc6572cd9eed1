"""Who trains: our backends as the trainers use them, and plain networks."""

from collections.abc import Callable
from typing import Any

import torch

from benchmarks.networks import cases, plain_flax, plain_torch
from models.flax.weights import from_canonical as flax_network
from models.flax.weights import load_weights
from models.torch.weights import from_canonical as torch_network
from models.weights import Weights
from train.backends.deepspeed_backend import DeepSpeedBackend
from train.backends.flax_backend import FlaxBackend
from train.config.schema import TrainConfig
from train.launch.process_group import join_alone
from train.recipe import Batch, step_scalars

# Trains by a batch, and returns the loss before; it may only have been queued.
Side = Callable[[Batch], Any]


def sides(framework: str, network: str, config: TrainConfig, weights: Weights) -> dict[str, Side]:
    """Returns ours, our network alone and the plain one, each with a copy of the weights."""
    train: Callable[[Any, Any], Any]
    if framework == cases.FLAX:
        train = plain_flax.trainer(flax_network(config.model, weights))
        plain = _plain_flax(network, weights)
    else:
        train = plain_torch.trainer(torch_network(config.model, weights))
        plain = _plain_torch(network, weights)
    return {
        cases.OURS: _ours(framework, config, weights),
        cases.NETWORK_ALONE: lambda batch: train(batch.inputs, batch.targets),
        cases.PLAIN: plain,
    }


def _ours(framework: str, config: TrainConfig, weights: Weights) -> Side:
    backend: FlaxBackend | DeepSpeedBackend
    if framework == cases.FLAX:
        backend = FlaxBackend(config, 1)
    else:
        join_alone()
        backend = DeepSpeedBackend(config)
    backend.start(weights)
    assert config.run.num_steps is not None
    scalars = step_scalars(config, config.run.num_steps)(0)  # the same in all steps
    return lambda batch: backend.step(batch, scalars).loss


def _plain_flax(network: str, weights: Weights) -> Side:
    run = plain_flax.trainer(load_weights(plain_flax.NETWORKS[network], weights))
    return lambda batch: run(batch.inputs, batch.targets)


def _plain_torch(network: str, weights: Weights) -> Side:
    module = plain_torch.NETWORKS[network]()
    module.load_state_dict({name: torch.tensor(value) for name, value in weights.items()})
    run = plain_torch.trainer(module)
    return lambda batch: run(batch.inputs, batch.targets)
