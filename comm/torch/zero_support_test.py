"""Tests that engines whose gradients cannot be compressed are refused, with every reason."""

from collections.abc import Iterator
from typing import Any

import pytest
import torch
from deepspeed.accelerator import get_accelerator
from torch import distributed

from comm.compression import Compression
from comm.testing import zero_engines
from comm.torch.zero_support import UnsupportedEngineError


@pytest.fixture(autouse=True, scope="module")
def world_of_one() -> Iterator[None]:
    distributed.init_process_group("gloo", store=distributed.HashStore(), rank=0, world_size=1)
    yield
    distributed.destroy_process_group()


def _engine(stage: int, config: dict[str, Any]) -> Any:
    model = zero_engines.Dot(((4, 4),))
    optimizer = torch.optim.SGD(model.parameters(), lr=1.0)
    return zero_engines.start(model, optimizer, 0, 1, stage, config)


@pytest.mark.parametrize(
    ("stage", "config", "reason"),
    [
        (0, {"fp16": {"enabled": True}}, "fp16 under stage 0: .*choose stage 1 to 3, or bf16"),
        (2, {"zero": {"contiguous_gradients": False}}, "contiguous_gradients is false: set it to"),
        (3, {"zero": {"reduce_scatter": False}}, "reduce_scatter is false: set it to true"),
        (3, {"zero": {"zero_quantized_gradients": True}}, "zero_quantized_gradients is another"),
    ],
)
def test_what_does_not_work_is_refused(
    stage: int, config: dict[str, Any], reason: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    # DeepSpeed refuses float16 on CPUs where it is slow; PyTorch computes it on all.
    monkeypatch.setattr(get_accelerator(), "is_fp16_supported", lambda: True)
    engine = _engine(stage, config)
    with pytest.raises(UnsupportedEngineError, match=f"ZeRO stage {stage}.*\n  - .*{reason}"):
        zero_engines.compressed(engine)


def test_all_reasons_are_given() -> None:
    engine = _engine(2, {"zero": {"contiguous_gradients": False}})
    with pytest.raises(UnsupportedEngineError) as caught:
        zero_engines.compressed(engine, Compression(ranks_per_node=2))
    assert "contiguous_gradients" in str(caught.value)
    assert "ranks_per_node" in str(caught.value)


def test_an_engine_is_compressed_once_at_a_time() -> None:
    engine = _engine(1, {})
    handle = zero_engines.compressed(engine)
    with pytest.raises(UnsupportedEngineError, match="they already are: close the first"):
        zero_engines.compressed(engine)
    handle.close()
    zero_engines.compressed(engine).close()


def test_another_version_of_deepspeed_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    engine = _engine(1, {})
    monkeypatch.setattr(engine.optimizer, "gradient_reduction_w_predivide", lambda tensor: tensor)
    with pytest.raises(
        UnsupportedEngineError, match=r"this version has .*\(tensor\): install 0\.19"
    ):
        zero_engines.compressed(engine)
