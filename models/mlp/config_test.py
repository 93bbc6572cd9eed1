"""What a residual stack may be made of, and that what is not is refused with what would fit."""

import math
from itertools import pairwise
from typing import Any

import pytest
from pydantic import ValidationError

from models.architecture import Model, ModelConfigError, parse_model
from models.weights import num_weights

PERCEPTRON = {
    "input": {"vector": {"shape": [784]}},
    "hidden_sizes": [512, 256, 128],
    "dropout_rate": 0.1,
    "num_classes": 1000,
}
TRANSFORMER = {
    "input": {"patches": {"image_size": 8, "patch_size": 2, "num_channels": 1}},
    "hidden_sizes": [64],
    "num_blocks": 3,
    "activation": "identity",
    "num_classes": 10,
    "mixer": {"kind": "attention", "num_heads": 4},
}
LANGUAGE = {
    "input": {"tokens": {"vocab_size": 256, "seq_len": 32}},
    "hidden_sizes": [64],
    "num_blocks": 2,
    "activation": "identity",
    "mixer": {"kind": "attention", "num_heads": 4, "causal": True},
    "head": {"kind": "next_token"},
}


def test_hidden_sizes_alone_are_the_plain_perceptron() -> None:
    model = parse_model("mlp", PERCEPTRON)
    sizes = [784, 512, 256, 128, 1000]
    expected = sum((inputs + 1) * outputs for inputs, outputs in pairwise(sizes))
    assert num_weights(model) == expected
    assert model.network.activations(model.config) == 512 + 256 + 128
    assert model.signature.input == ("features", "float32", (784,), None)
    assert model.signature.output == ("logits", "float32", (1000,), None)


def test_a_transformer_keeps_what_its_layers_multiply() -> None:
    model = parse_model("mlp", TRANSFORMER)
    assert model.config.seq_len == 16
    assert model.network.activations(model.config) == 16 * (64 + 3 * (3 * 64 + 4 * 64))
    assert model.signature.input == ("image", "float32", (8, 8, 1), None)


def test_a_language_model_answers_for_each_token() -> None:
    signature = parse_model("mlp", LANGUAGE).signature
    assert signature.input == ("tokens", "int32", (32,), 256)
    assert signature.output == ("logits", "float32", (32, 256), None)


def test_a_class_token_is_one_more() -> None:
    model = parse_model("mlp", TRANSFORMER | {"head": {"pooling": "class_token"}})
    assert model.config.seq_len == 17
    assert model.signature.output.shape == (10,)


def test_stages_have_blocks_each_or_all() -> None:
    config = parse_model("mlp", PERCEPTRON | {"num_blocks": [0, 2, 1]}).config
    assert config.block_widths == (256, 256, 128)
    assert parse_model("mlp", PERCEPTRON | {"num_blocks": 1}).config.block_widths == (512, 256, 128)


def test_stochastic_depth_rises_to_its_rate() -> None:
    block = {"stochastic_depth": {"rate": 0.3}}
    linear = parse_model("mlp", TRANSFORMER | {"block": block}).config.block.stochastic_depth
    rates = [linear.of(index, 3) for index in range(3)]
    assert all(map(math.isclose, rates, (0.1, 0.2, 0.3)))
    constant = linear.model_copy(update={"ramp": "constant"})
    assert [constant.of(index, 3) for index in range(3)] == [0.3] * 3


@pytest.mark.parametrize("config", [PERCEPTRON, TRANSFORMER, LANGUAGE])
def test_survives_a_round_trip_through_json(config: dict[str, Any]) -> None:
    model = parse_model("mlp", config)
    assert Model.model_validate_json(model.model_dump_json()) == model
    assert Model.model_validate(model.model_dump()) == model


def test_cannot_be_changed() -> None:
    config = parse_model("mlp", PERCEPTRON).config
    with pytest.raises(ValidationError, match="frozen"):
        config.dropout_rate = 0.5


_EXPERTS = {"num_experts": 4}
_HEADS_OF_1 = {"kind": "attention", "num_heads": 64}


@pytest.mark.parametrize(
    ("base", "change", "message"),
    [
        (PERCEPTRON, {"hidden_sizes": []}, "hidden_sizes: expected a list of at least 1, got []"),
        (PERCEPTRON, {"hidden_sizes": [0]}, "hidden_sizes.0: input should be greater than or equa"),
        (PERCEPTRON, {"hidden_sizes": 512}, "hidden_sizes: expected a list, got 512"),
        (PERCEPTRON, {"hiden_sizes": [5]}, "hiden_sizes: unknown key, did you mean 'hidden_sizes'"),
        (PERCEPTRON, {"num_classes": True}, "num_classes: input should be a valid integer, got Tr"),
        (PERCEPTRON, {"num_classes": 1}, "num_classes: input should be greater than or equal to 2"),
        (PERCEPTRON, {"num_classes": None}, "num_classes is missing, which head.kind classificat"),
        (PERCEPTRON, {"num_blocks": -1}, "num_blocks: expected an integer from 0 to 1000, or a l"),
        (PERCEPTRON, {"num_blocks": [1, "2", 0]}, "or a list of them, got [1, '2', 0]"),
        (PERCEPTRON, {"num_blocks": [1, 2]}, "num_blocks lists 2 stages, hidden_sizes 3; expected"),
        (PERCEPTRON, {"num_blocks": 400}, "num_blocks: expected at most 1000 in all, got 1200"),
        (PERCEPTRON, {"feed_forward": {"bias": False}}, "an effect with num_blocks above 0 alone"),
        (PERCEPTRON, {"norm": {"kind": "rms"}}, "with num_blocks above 0 or final_norm alone"),
        (
            PERCEPTRON,
            {"num_blocks": 1, "mixer": {"kind": "attention"}},
            "mixer.kind attention mixes tokens, and input.vector is one; choose input.patches or",
        ),
        (
            PERCEPTRON,
            {"positions": {"learned": {"enabled": True}}},
            "positions.learned.enabled: input.vector has one position",
        ),
        (
            PERCEPTRON,
            {"positions": {"rotary": {"enabled": True}}},
            "positions.rotary.enabled: it turns or lowers the scores of mixer.kind attention, not",
        ),
        (PERCEPTRON, {"head": {"pooling": "last"}}, "head.pooling last: input.vector is one token"),
        (PERCEPTRON, {"head": {"kind": "next_token"}}, "num_classes 1000 has an effect with head"),
        (
            PERCEPTRON,
            {"num_classes": None, "head": {"kind": "next_token"}},
            "head.kind next_token needs input.tokens",
        ),
        (
            TRANSFORMER,
            {"mixer": {"kind": "attention", "num_heads": 5}},
            "a width of 64 is not a multiple of mixer.num_heads 5; 4 or 8 would fit",
        ),
        (
            TRANSFORMER,
            {"mixer": {"kind": "attention", "num_heads": 4, "num_kv_heads": 3}},
            "mixer: num_kv_heads 3 does not divide num_heads 4; 2 or 4 would fit",
        ),
        (
            TRANSFORMER,
            {"mixer": {"kind": "none", "window": 3}},
            "mixer: window 3 has an effect with kind attention alone; leave it out",
        ),
        (
            TRANSFORMER,
            {"hidden_sizes": [12], "positions": {"rotary": {"enabled": True}}},
            "rotary.fraction 1.0 of heads of 3 is 3; rotary.fraction 0.666667 would fit, and so w",
        ),
        (
            TRANSFORMER,
            {"mixer": _HEADS_OF_1 | {"qk_norm": {"enabled": True, "kind": "layer"}}},
            "mixer.qk_norm.kind layer leaves nothing of heads of 1; choose rms or fewer heads",
        ),
        (
            PERCEPTRON,
            {"hidden_sizes": [8, 1], "final_norm": True},
            "norm.kind layer leaves nothing of a width of 1; choose rms, or make hidden_sizes [8,",
        ),
        (
            TRANSFORMER,
            {"head": {"pooling": "class_token"}, "mixer": {"kind": "attention", "causal": True}},
            "head.pooling class_token: in front of all, it sees none with mixer.causal; choose",
        ),
        (
            TRANSFORMER,
            {"head": {"pooling": "class_token"}, "mixer": {}},
            "head.pooling class_token: without mixer.kind attention or linear_attention it learns",
        ),
        (
            TRANSFORMER,
            {"block": {"stochastic_depth": {"ramp": "constant"}}},
            "block.stochastic_depth: ramp 'constant' has an effect with a rate above 0 alone",
        ),
        (
            TRANSFORMER,
            {"block": {"zero_init": True, "layer_scale": 0.0}},
            "block: zero_init with layer_scale 0: of a product of two zeros neither learns",
        ),
        (
            TRANSFORMER,
            {"mixture_of_experts": _EXPERTS | {"top_k": 5}},
            "mixture_of_experts: top_k 5 is more than num_experts 4",
        ),
        (
            TRANSFORMER,
            {"mixture_of_experts": _EXPERTS | {"every": 4}},
            "mixture_of_experts.every 4 gives none of 3 blocks experts; expected from 1 to 3",
        ),
        (
            LANGUAGE,
            {"mixture_of_experts": _EXPERTS | {"routing": "expert_choice", "capacity_factor": 1.0}},
            "mixture_of_experts.routing 'expert_choice' of a causal network",
        ),
        (
            LANGUAGE,
            {"mixer": {"kind": "attention", "num_heads": 4}},
            "head.kind next_token needs mixer.causal: true, or tokens see what they are to tell",
        ),
        (
            LANGUAGE,
            {"hidden_sizes": [64, 32], "head": {"kind": "next_token", "tied": True}},
            "head.tied: the last of hidden_sizes is 32, the embedding's width 64; expected the sa",
        ),
    ],
)
def test_refuses(base: dict[str, Any], change: dict[str, Any], message: str) -> None:
    with pytest.raises(ModelConfigError) as error:
        parse_model("mlp", base | change)
    assert message in str(error.value)


def test_lists_every_problem_at_once() -> None:
    with pytest.raises(ModelConfigError) as error:
        parse_model("mlp", {"hidden_sizes": [-1], "colour": "red"})
    for key in ("input: missing", "hidden_sizes.0: input", "colour: unknown key"):
        assert key in str(error.value)


def test_refuses_an_unknown_architecture() -> None:
    with pytest.raises(ModelConfigError, match=r"architecture: input should be .*, got 'resnet'"):
        parse_model("resnet", PERCEPTRON)
