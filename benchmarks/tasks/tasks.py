"""What convergence and the bake-off train: small models, each on data that every machine has."""

from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import nn

from benchmarks.harness.suite import BadInputError
from data.sources import digits, stdlib_text
from data.sources.stdlib_text import (
    NUM_BYTES,
    StdlibNotFoundError,
    StdlibText,
    Windows,
    spread_windows,
)
from models.architecture import Model, parse_model
from models.torch.weights import from_canonical
from models.weights import init_weights
from optim.adamw import AdamW
from optim.schedule import warmup_cosine
from train.config.load import load_config
from train.config.schema import TrainConfig
from train.recipe import step_scalars, training_batches
from train.tasks.classification.task import CrossEntropy

Examples = tuple[torch.Tensor, torch.Tensor]

# 58,602 weights. Unlike a batch's, the norm of a group is the same in training and evaluation.
_DIGITS_CNN = {
    "image": {"height": 8, "width": 8, "num_channels": 1},
    "num_classes": 10,
    "stem": {"width": 32},
    "widths": [64],
    "depths": [1],
    "strides": [2],
    "block": {"activation": "gelu"},
    "norm": {"kind": "group", "num_groups": 8},
}

_DIGITS_PRESET = Path(__file__).parents[2] / "config" / "digits.yaml"

_BYTE_BATCH_SIZE, _BYTE_SEQ_LEN = 32, 64
# 1.7 nats a byte after 400 steps of 32 windows; a text without structure would have 5.5.
_BYTE_MODEL = parse_model(
    "mlp",
    {
        "input": {"tokens": {"vocab_size": NUM_BYTES, "seq_len": _BYTE_SEQ_LEN}},
        "hidden_sizes": [96],
        "num_blocks": 2,
        "activation": "identity",
        "positions": {"rotary": {"enabled": True}},
        "mixer": {"kind": "attention", "num_heads": 3, "causal": True},
        "block": {"zero_init": True},
        "final_norm": True,
        "head": {"kind": "next_token", "tied": True, "bias": False},
    },
)
# The rate is the best of 1.5e-3, 2e-3, 3e-3 and 6e-3 in float32.
_BYTE_ADAMW = AdamW(learning_rate=2e-3, beta2=0.99, weight_decay=0.1)
_BYTE_HELD_OUT_WINDOWS = 1024

# Both recipes warm up for a tenth of their steps.
_STEPS_TO_ONE_OF_WARMUP = 10


class Task(NamedTuple):
    """A model to train from a seed, the same whatever happens to its gradients.

    Attributes:
      model: makes the model with its initial weights; it maps inputs to logits [..., classes].
      batch: (inputs, targets [...]) of a step, counted from 0, for all ranks together.
      held_out: inputs and targets to evaluate on.
      learning_rates: [num_steps].
      adamw: the optimizer's constants.
      label_smoothing: of the training loss.
    """

    model: Callable[[], nn.Module]
    batch: Callable[[int], Examples]
    held_out: Examples
    learning_rates: np.ndarray
    adamw: AdamW
    label_smoothing: float


def make_digits(seed: int, num_steps: int) -> Task:
    """The vision transformer of `config/digits.yaml`, with its recipe."""
    config = _digits_config(seed, num_steps)
    return _digits_task(config, num_steps, config.model)


def make_digits_cnn(seed: int, num_steps: int) -> Task:
    """A convolutional network, with the same recipe."""
    config = _digits_config(seed, num_steps)
    return _digits_task(config, num_steps, parse_model("cnn", _DIGITS_CNN))


def make_bytes(seed: int, num_steps: int) -> Task:
    """A language model over the bytes of Python's standard library."""
    text = _text()
    windows = Windows(text.train, _BYTE_BATCH_SIZE, _BYTE_SEQ_LEN, seed)
    rates = [
        warmup_cosine(
            step,
            peak=_BYTE_ADAMW.learning_rate,
            num_steps=num_steps,
            warmup_steps=num_steps // _STEPS_TO_ONE_OF_WARMUP,
        )
        for step in range(num_steps)
    ]
    return Task(
        model=lambda: from_canonical(_BYTE_MODEL, init_weights(_BYTE_MODEL, seed)),
        batch=lambda step: _next_bytes(windows.batch(step)),
        held_out=_next_bytes(spread_windows(text.held_out, _BYTE_HELD_OUT_WINDOWS, _BYTE_SEQ_LEN)),
        learning_rates=np.array(rates, np.float32),
        adamw=_BYTE_ADAMW,
        label_smoothing=0.0,
    )


def digits_preset() -> TrainConfig:
    """Returns the preset of `config/`, with a first guess of every optimizer's settings."""
    return load_config(_DIGITS_PRESET)


TASKS: dict[str, Callable[[int, int], Task]] = {
    "digits": make_digits,
    "digits-cnn": make_digits_cnn,
    "bytes": make_bytes,
}


def data_digests(names: list[str]) -> dict[str, str]:
    """Returns the SHA-256 of each task's data, which two runs must share to compare, as settings.

    Raises:
      BadInputError: A task's data are not there.
    """
    try:
        return {
            f"sha256_of_{name}": _text().digest if name == "bytes" else digits.load().digest
            for name in names
        }
    except StdlibNotFoundError as error:
        raise BadInputError(str(error)) from error


def _digits_task(config: TrainConfig, num_steps: int, model: Model) -> Task:
    source = digits.load()
    batches = training_batches(config, source.train)
    scalars = map(step_scalars(config, num_steps), range(num_steps))
    adamw, loss = config.optimizer.algorithm, config.loss
    assert isinstance(adamw, AdamW)  # by the preset
    assert isinstance(loss, CrossEntropy)
    weights = init_weights(model, config.run.seed)
    return Task(
        model=lambda: from_canonical(model, weights),
        batch=lambda step: _examples(*batches.batch(step)),
        held_out=_examples(source.test.inputs, source.test.targets),
        learning_rates=np.array([of_step.learning_rate for of_step in scalars]),
        adamw=adamw,
        label_smoothing=loss.label_smoothing,
    )


def _digits_config(seed: int, num_steps: int) -> TrainConfig:
    content = digits_preset().model_dump()
    content["run"] |= {"seed": seed, "num_steps": num_steps}
    content["schedule"] |= {"warmup_steps": num_steps // _STEPS_TO_ONE_OF_WARMUP}
    return TrainConfig.model_validate(content)


@cache
def _text() -> StdlibText:
    return stdlib_text.load()


def _next_bytes(windows: np.ndarray) -> Examples:
    return _examples(windows[:, :-1].astype(np.int64), windows[:, 1:])


def _examples(inputs: np.ndarray, targets: np.ndarray) -> Examples:
    return torch.tensor(inputs), torch.tensor(targets, dtype=torch.int64)
