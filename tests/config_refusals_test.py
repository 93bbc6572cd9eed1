"""What does not go together is refused before anything is built, with keys and what would fit."""

from typing import Any

import pytest
from pydantic import ValidationError

from base.config import explain
from tests.effects.bases import BASES
from tests.effects.content import with_value
from train.config.schema import TrainConfig


def _refusal(base: str, changes: dict[str, Any]) -> str:
    content = BASES[base]
    for path, value in changes.items():
        content = with_value(content, path, value)
    with pytest.raises(ValidationError) as error:
        TrainConfig.model_validate(content)
    (line,) = explain(error.value, TrainConfig)
    return line


_OF_DATA = [
    (
        "perceptron of numbers",
        {"task": "classification", "loss": {}},
        "task: data.source 'waves' has targets float32 [1], but task 'classification' needs one "
        "class for each example; regression would fit",
    ),
    (
        "perceptron",
        {"task": "next_token"},
        "task: data.source 'mixture' has targets int32 [], but task 'next_token' needs a token for "
        "each position, [seq_len]; classification would fit",
    ),
    (
        "language model",
        {"task": "regression"},
        "task: data.source 'recall' has targets int32 [16], but task 'regression' needs",
    ),
    (
        "language model",
        {"model.config.input.tokens.vocab_size": 11},
        "model.config: for data.source 'recall': gives [16, 11], but task 'next_token' needs "
        "[16, 12]",
    ),
    (
        "transformer of images",
        {"data.source": "mnist10k"},
        "for data.source 'mnist10k': takes float32 [8, 8, 1], but the images are float32 [28, 28, ",
    ),
    (
        "language model",
        {"data.options.min_seq_len": None, "data.pad_to_multiple_of": 4},
        "data.pad_to_multiple_of: data.source 'recall' has sequences of one length, as its data",
    ),
    (
        "model of bytes",
        {"data.group_by_length": True},
        "data.group_by_length: data.source 'stdlib_text' has windows of one length",
    ),
    (
        "model of bytes",
        {"data.mixup_alpha": 0.2},
        "data.mixup_alpha: mixes inputs float32 and one class or numbers, but data.source "
        "'stdlib_text' has inputs int32 [16] and targets int32 [16]; leave it out",
    ),
    (
        "perceptron",
        {"data.augment.noise_stddev": 0.1},
        "data.augment: changes images [height, width, channels], but data.source 'mixture' has",
    ),
    (
        "transformer of images",
        {"data.augment.cutout_pixels": 8},
        "data.augment: cutout_pixels 8 can leave nothing of images of 8 x 8 pixels; expected less",
    ),
    (
        "language model",
        {"data.options.num_pairs": 6},
        "data.options: num_pairs 6 is more than the 5 keys of vocab_size 12; raise vocab_size to",
    ),
    (
        "perceptron",
        {"schedule.warmup_steps": 3},
        "schedule.warmup_steps: expected less than run.num_steps (3), got 3",
    ),
]

_OF_NETWORKS = [
    (
        "transformer of images",
        {"model.config.hidden_sizes": [18]},
        "a width of 18 is not a multiple of mixer.num_heads 4; 3 or 6 would fit",
    ),
    (
        "transformer of images",
        {"model.config.mixer.num_kv_heads": 3},
        "num_kv_heads 3 does not divide num_heads 4; 2 or 4 would fit",
    ),
    (
        "transformer of images",
        {"model.config.hidden_sizes": [12]},
        "rotary.fraction 1.0 of heads of 3 is 3; rotary.fraction 0.666667 would fit",
    ),
    (
        "experts",
        {"model.config.mixture_of_experts.top_k": 5},
        "top_k 5 is more than num_experts 4; expected from 1 to 4",
    ),
    (
        "linear attention",
        {"model.config.mixer.window": 2},
        "model.config.mixer: window 2 has an effect with kind attention alone; leave it out",
    ),
    (
        "perceptron",
        {"model.config.mixer.window": 2},
        "model.config.mixer: window 2 has an effect with kind attention alone; leave it out",
    ),
    (
        "language model",
        {"model.config.mixer.causal": False},
        "head.kind next_token needs mixer.causal: true",
    ),
    (
        "convolutions",
        {"model.config.widths": [8, 18]},
        "a width of 18 is not a multiple of attention.num_heads 4; 3 or 6 would fit",
    ),
    (
        "convolutions",
        {"model.config.attention.num_kv_heads": 3},
        "model.config.attention: num_kv_heads 3 does not divide num_heads 4; 2 or 4 would fit",
    ),
    (
        "bottlenecks",
        {"model.config.widths": [8, 17]},
        "widths[1] is 17, not a multiple of the 2 halves of a reversible stage (2); 16 or 18 would",
    ),
    (
        "convolutions with experts",
        {"model.config.mixture_of_experts.top_k": 5},
        "top_k 5 is more than num_experts 4; expected from 1 to 4",
    ),
    (
        "convolutions with linear attention",
        {"model.config.attention.window": 2},
        "model.config.attention: window 2 has an effect with kind attention alone; leave it out",
    ),
]


@pytest.mark.parametrize(
    ("base", "changes", "message"),
    [*_OF_DATA, *_OF_NETWORKS],
    ids=lambda item: ", ".join(item) if isinstance(item, dict) else None,
)
def test_refuses(base: str, changes: dict[str, Any], message: str) -> None:
    assert message in _refusal(base, changes)
