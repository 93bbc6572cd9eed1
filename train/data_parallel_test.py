"""Runs that cannot be shared are refused, and shares make up the whole."""

from typing import get_args

import numpy as np
import pytest

from base.seeds import seed_of
from comm.compression import Compression
from comm.wire import Wire
from kernels.quantize import contract
from train.config.schema import ConfigError, GradientCompressionConfig
from train.data_parallel import (
    check_world_size,
    communication_report,
    compression_of,
    rank_slice,
    ranks_per_node,
)
from train.testing.example import short_config


@pytest.mark.parametrize("world_size", [1, 2, 4])
def test_shares_make_up_the_batch_in_order(world_size: int) -> None:
    config = short_config(num_steps=1)
    batch = np.arange(config.data.global_batch_size)
    shares = [batch[rank_slice(config, rank, world_size)] for rank in range(world_size)]
    assert len({len(share) for share in shares}) == 1
    np.testing.assert_array_equal(np.concatenate(shares), batch)


@pytest.mark.parametrize(
    ("world_size", "compression", "message"),
    [
        (3, {}, "data.global_batch_size: 64 images cannot be shared equally by the 3 ranks"),
        (1, {"enabled": True}, "gradient_compression.enabled: one rank alone sends no gradients"),
        (4, {"enabled": True, "ranks_per_node": 3}, "ranks_per_node: 4 ranks do not make whole"),
        (2, {"enabled": True, "ranks_per_node": 4}, "of 4; expected a divisor of 2"),
    ],
)
def test_refuses(world_size: int, compression: dict[str, object], message: str) -> None:
    config = short_config(num_steps=1, gradient_compression=compression)
    with pytest.raises(ConfigError) as caught:
        check_world_size(config, world_size)
    assert message in str(caught.value)


@pytest.mark.parametrize("stage", [1, 2, 3])
def test_nodes_of_one_rank_are_no_nodes(stage: int) -> None:
    section = {"enabled": True, "ranks_per_node": 1}
    config = short_config(num_steps=1, gradient_compression=section, zero={"stage": stage})
    check_world_size(config, 4)
    assert ranks_per_node(config) == 1


@pytest.mark.parametrize(("world_size", "steps"), [(1, 3), (2, 64), (4, 32)])
def test_refuses_micro_batches_that_are_not_equal(world_size: int, steps: int) -> None:
    config = short_config(num_steps=1, data={"gradient_accumulation_steps": steps})
    with pytest.raises(ConfigError) as caught:
        check_world_size(config, world_size)
    share = 64 // world_size
    assert str(caught.value) == (
        f"data.gradient_accumulation_steps: the {share} images of a rank do not make {steps} equal "
        f"micro-batches; expected a divisor of {share}"
    )


@pytest.mark.parametrize(
    ("batch_size", "world_size", "steps"), [(1, 1, 1), (4, 2, 2), (6, 2, 3), (5, 1, 5)]
)
def test_refuses_a_batch_norm_of_one_value(batch_size: int, world_size: int, steps: int) -> None:
    model = {
        "architecture": "cnn",
        "config": {
            "image": {"height": 8, "width": 8, "num_channels": 1},
            "num_classes": 10,
            "strides": (8, 1),
        },
    }
    data = {"global_batch_size": batch_size, "gradient_accumulation_steps": steps, "augment": None}
    config = short_config(num_steps=1, model=model, data=data)
    parts = world_size * steps
    with pytest.raises(ConfigError) as caught:
        check_world_size(config, world_size)
    assert str(caught.value) == (
        f"data.global_batch_size: {batch_size} images in {parts} parts, ranks times "
        "data.gradient_accumulation_steps, are fewer at once than the 2 that model.config needs "
        f"in training; expected at least {2 * parts}"
    )
    enough = short_config(num_steps=1, model=model, data=data | {"global_batch_size": 2 * parts})
    check_world_size(enough, world_size)


def test_accepts() -> None:
    accumulated = short_config(num_steps=1, data={"gradient_accumulation_steps": 32})
    check_world_size(accumulated, 2)
    check_world_size(short_config(num_steps=1), 1)
    section = {"enabled": True, "ranks_per_node": 2}
    check_world_size(short_config(num_steps=1, gradient_compression=section), 4)


def test_a_section_that_is_not_enabled_compresses_nothing() -> None:
    assert compression_of(short_config(num_steps=1)) is None


def test_defaults_are_those_of_the_library() -> None:
    config = short_config(num_steps=1, gradient_compression={"enabled": True})
    assert compression_of(config) == Compression(seed=seed_of(config.run.seed, "gradient rounding"))


def test_every_value_reaches_the_library() -> None:
    section = {
        "enabled": True,
        "format": "float8_e5m2",
        "block_size": 512,
        "rounding": "stochastic",
        "error_feedback": False,
        "min_size": 5,
        "bucket_bytes": 2**20,
        "ranks_per_node": 2,
    }
    config = short_config(num_steps=1, gradient_compression=section, run={"seed": 3})
    assert compression_of(config) == Compression(
        codec=contract.codec("float8_e5m2", block_size=512, rounding="stochastic"),
        error_feedback=False,
        min_size=5,
        bucket_bytes=2**20,
        ranks_per_node=2,
        seed=seed_of(3, "gradient rounding"),
    )


@pytest.mark.parametrize(
    ("key", "accepted"),
    [
        ("format", contract.FORMAT_NAMES),
        ("block_size", contract.BLOCK_SIZES),
        ("rounding", contract.ROUNDINGS),
    ],
)
def test_accepts_all_that_the_library_does(key: str, accepted: tuple[object, ...]) -> None:
    assert get_args(GradientCompressionConfig.model_fields[key].annotation) == accepted


def test_the_smallest_bucket_holds_the_largest_block() -> None:
    section = {"enabled": True, "block_size": max(contract.BLOCK_SIZES), "bucket_bytes": 16384}
    compression = compression_of(short_config(num_steps=1, gradient_compression=section))
    assert compression is not None
    assert compression.piece_size == max(contract.BLOCK_SIZES)


@pytest.mark.parametrize(
    ("section", "description"),
    [
        ({}, "int8, blocks of 256, error feedback"),
        ({"error_feedback": False}, "int8, blocks of 256, no error feedback"),
        (
            {"format": "float8_e4m3fn", "rounding": "stochastic", "ranks_per_node": 2},
            "float8_e4m3fn, blocks of 256, stochastic rounding, error feedback, "
            "full precision within nodes of 2",
        ),
    ],
)
def test_reports_bytes_of_a_step(section: dict[str, object], description: str) -> None:
    config = short_config(num_steps=4, gradient_compression={"enabled": True, **section})
    report = communication_report(config, Wire(sent_bytes=1000.0, float32_bytes=4000.0), 4)
    assert (report.bytes_per_step, report.ratio) == (250.0, 0.25)
    assert report.description == f"gradient compression: {description}"
