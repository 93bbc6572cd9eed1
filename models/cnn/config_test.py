"""Convolutional networks: what is accepted, what it comes to, and what is refused and how."""

from typing import Any

import pytest

from models.architecture import Model, ModelConfigError, parse_model
from models.cnn.plan import ConvPlan
from models.weights import num_weights

VALID: dict[str, Any] = {
    "image": {"height": 28, "width": 28, "num_channels": 1},
    "num_classes": 10,
    "stem": {"width": 16},
    "widths": [32, 64],
    "depths": [1, 2],
    "strides": [2, 2],
}
_ATTENTION = {"kind": "attention", "num_heads": 2}
_EXPERTS: dict[str, Any] = {"num_experts": 2, "top_k": 1}


def test_survives_a_round_trip_through_json() -> None:
    model = parse_model("cnn", VALID)
    assert Model.model_validate_json(model.model_dump_json()) == model


def test_plan_of_basic_blocks() -> None:
    first, second, third = parse_model("cnn", VALID).config.blocks
    assert [block.name for block in (first, second, third)] == [
        "stages.0.0",
        "stages.1.0",
        "stages.1.1",
    ]
    assert first.convs == (ConvPlan(16, 32, 3, 2, 1), ConvPlan(32, 32, 3, 1, 1))
    assert second.convs == (ConvPlan(32, 64, 3, 2, 1), ConvPlan(64, 64, 3, 1, 1))
    assert third.convs == (ConvPlan(64, 64, 3, 1, 1), ConvPlan(64, 64, 3, 1, 1))
    assert (first.height, second.height, third.image_width) == (14, 7, 7)
    assert [block.changes_shape for block in (first, second, third)] == [True, True, False]


def test_plan_of_bottlenecks_of_odd_images() -> None:
    changed = VALID | {
        "image": {"height": 27, "width": 5, "num_channels": 1},
        "block": {"kind": "bottleneck", "expansion": 4, "groups": 2},
        "stem": {"width": 16, "pool": "max"},
    }
    first, *_ = parse_model("cnn", changed).config.blocks
    assert first.convs == (ConvPlan(16, 8), ConvPlan(8, 8, 3, 2, 2), ConvPlan(8, 32))
    assert (first.height, first.image_width) == (7, 2)  # 27 -> 14 -> 7, 5 -> 3 -> 2


def test_plan_of_a_reversible_stage() -> None:
    config = parse_model("cnn", VALID | {"depths": [3, 4], "reversible_stages": [1]}).config
    ordinary, reversible = config.stages
    assert (len(ordinary.blocks), len(ordinary.reversible)) == (3, 0)
    # The block that changes the shape is an ordinary one; the others' branches see halves.
    assert [block.width for block in reversible.blocks] == [64]
    assert [block.convs[0] for block in reversible.reversible] == [ConvPlan(32, 32, 3, 1, 1)] * 3


def test_stochastic_depth_grows_linearly() -> None:
    config = parse_model("cnn", VALID | {"block": {"stochastic_depth_rate": 0.3}}).config
    assert [block.depth_rate for block in config.blocks] == pytest.approx([0.1, 0.2, 0.3])


def test_counts_the_weights_of_a_network_by_hand() -> None:
    convs = 9 * (1 * 16 + 16 * 32 + 32 * 32 + 32 * 64 + 3 * 64 * 64)
    shortcuts = 16 * 32 + 32 * 64
    norms = 4 * (16 + 32 + 32 + 64 + 64 + 64 + 64)  # weight, bias, and running mean and variance
    head = 64 * 10 + 10
    assert num_weights(parse_model("cnn", VALID)) == convs + shortcuts + norms + head


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"depths": [1]}, "widths has 2, depths has 1, strides has 2"),
        ({"widths": []}, "widths: expected a list of at least 1, got []"),
        ({"depths": [1, 1300]}, "depths.1: input should be less than or equal to 1202, got 1300"),
        ({"depths": [1000, 1000]}, "depths: expected at most 1202 blocks in all, got 2000"),
        ({"widths": [32.0, 64]}, "widths.0: input should be a valid integer, got 32.0"),
        ({"width": 32}, "width: unknown key, did you mean 'widths'?"),
        ({"stem": {"kernel_size": 4}}, "stem.kernel_size: input should be 1, 3, 5, 7, 9 or 11"),
        (
            {"reversible_stages": [2]},
            "reversible_stages [2]: expected different stages from 0 to 1",
        ),
        ({"reversible_stages": [1, 1]}, "reversible_stages [1, 1]: expected different stages"),
        ({"checkpointed_stages": [5]}, "checkpointed_stages [5]: expected different stages"),
        (
            {"reversible_stages": [1], "widths": [32, 65], "depths": [1, 3]},
            "widths[1] is 65, not a multiple of the 2 halves of a reversible stage (2); 64 or 66",
        ),
        (
            {"reversible_stages": [1]},
            "reversible_stages: stage 1 has fewer than 2 branches that keep its shape, one for "
            "each half of the channels; raise depths[1] (2)",
        ),
        (
            {"block": {"groups": 6}},
            "the width of a convolution in stages.0.0 is 16, not a multiple of block.groups (6); "
            "12 or 18 would fit",
        ),
        (
            {"block": {"kind": "bottleneck", "expansion": 3}},
            "widths[0] is 32, not a multiple of block.expansion (3); 30 or 33 would fit",
        ),
        (
            {"block": {"kind": "bottleneck", "expansion": 4}, "reversible_stages": [1]}
            | {"widths": [32, 12], "depths": [1, 3]},
            "half of widths[1] is 6, not a multiple of block.expansion (4); 4 or 8 would fit",
        ),
        ({"block": {"expansion": 2}}, "block.expansion 2 has an effect with block.kind bottleneck"),
        (
            {"norm": {"kind": "group", "num_groups": 5}},
            "the width of a norm in stages.0.0 is 16, not a multiple of norm.num_groups (5)",
        ),
        (
            {"norm": {"kind": "instance"}, "strides": [14, 2]},
            "norm.kind instance is of one value at a time in stages.1.0 (channels: 64, pixels: 1)",
        ),
        (
            {"norm": {"kind": "group", "num_groups": 16}, "widths": [16, 64], "strides": [28, 1]},
            "norm.kind group is of one value at a time in stages.0.0 (channels: 16, pixels: 1), of",
        ),
        (
            {"block": {"zero_init": True, "layer_scale": 0.0}},
            "block.zero_init with block.layer_scale 0: of a product of two zeros neither learns",
        ),
        ({"attention_stages": [1]}, "attention_stages [1] needs attention.kind attention"),
        ({"attention": _ATTENTION}, "attention.kind attention needs attention_stages, such as [1]"),
        (
            {"attention": _ATTENTION | {"num_heads": 3}, "attention_stages": [1]},
            "a width of 64 is not a multiple of attention.num_heads 3",
        ),
        (
            {"attention": _ATTENTION | {"num_heads": 64}, "attention_stages": [1]}
            | {"depths": [1, 3], "reversible_stages": [1]},
            "a width of 32 is not a multiple of attention.num_heads 64",
        ),
        ({"expert_stages": [1]}, "expert_stages [1] has an effect with mixture_of_experts alone"),
        ({"mixture_of_experts": _EXPERTS}, "mixture_of_experts needs expert_stages, such as [1]"),
        (
            {"mixture_of_experts": _EXPERTS | {"every": 3}, "expert_stages": [1]},
            "of at least mixture_of_experts.every (3) blocks",
        ),
        (
            {"feed_forward": {"kind": "gated"}},
            "has an effect with mixture_of_experts alone; leave it out",
        ),
        ({"blur_filter_size": 3, "strides": [1, 1]}, "blur_filter_size 3: nothing strides"),
        (
            {"blur_filter_size": 7, "strides": [14, 2]},
            "blur_filter_size 7 needs images of at least 4 pixels a side, but stages.1.0 has 2",
        ),
        ({"blur_filter_size": 8}, "blur_filter_size: input should be less than or equal to 7"),
    ],
)
def test_refuses(change: dict[str, Any], message: str) -> None:
    with pytest.raises(ModelConfigError) as error:
        parse_model("cnn", VALID | change)
    assert message in str(error.value)


def test_experts_are_counted_over_their_stages() -> None:
    experts = _EXPERTS | {"every": 2}
    changed = {"depths": [3, 3], "expert_stages": [0, 1], "mixture_of_experts": experts}
    config = parse_model("cnn", VALID | changed).config
    assert [block.has_experts for block in config.blocks] == [False, True] * 3


def test_a_norm_may_see_one_pixel_of_several_channels() -> None:
    # With a blur all norms of a block come before it strides.
    blurred = {"norm": {"kind": "instance"}, "strides": [14, 2], "depths": [1, 1]}
    with pytest.raises(ModelConfigError, match=r"in the head \(channels: 64, pixels: 1\)"):
        parse_model("cnn", VALID | blurred | {"blur_filter_size": 2})
    layer = VALID | {"norm": {"kind": "layer"}, "strides": [14, 2]}
    assert parse_model("cnn", layer).config.min_batch_size == 1


@pytest.mark.parametrize("kind", ["batch", "switchable"])
def test_a_norm_over_the_batch_needs_two_images_of_one_pixel(kind: str) -> None:
    norms = {"norm": {"kind": kind}}
    model = parse_model("cnn", VALID | norms | {"strides": [14, 2]})
    assert model.network.min_batch_size(model.config) == 2
    assert parse_model("cnn", VALID | norms).config.min_batch_size == 1
