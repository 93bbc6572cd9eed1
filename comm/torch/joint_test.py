"""Small parts as one: the same values in the same blocks, and everything goes back to its place."""

import torch

from comm.torch import joint
from comm.torch.parts import Part
from kernels.quantize.contract import codec

_CODEC = codec(block_size=64)
_WORLD_SIZE = 3


def _part(size: int, first: float, plain_dtype: torch.dtype | None = None) -> Part:
    chunk_size = _CODEC.chunk_size(size, _WORLD_SIZE)
    values = torch.arange(first, first + size)
    return Part(
        values,
        values,
        owner=0,
        num_chunks=_WORLD_SIZE,
        chunk_size=chunk_size,
        plain_dtype=plain_dtype,
        local=-values,
        owned=torch.arange(first, first + chunk_size),
    )


def test_a_chunk_is_all_parts_chunks_side_by_side() -> None:
    parts = [_part(300, 1.0), _part(64, 1000.0)]
    (whole,) = joint.join(parts, _CODEC)
    assert (whole.num_chunks, whole.chunk_size) == (3, 128 + 64)
    rows = whole.values.view(3, -1)
    assert rows[0].tolist() == [*range(1, 129), *range(1000, 1064)]
    assert rows[2].tolist() == [*range(257, 301), *[0] * (128 - 44 + 64)]
    assert whole.local is not None
    assert torch.equal(whole.local, -whole.values)


def test_all_goes_back_to_its_place() -> None:
    parts = [_part(300, 1.0), _part(64, 1000.0), _part(1, 5000.0)]
    (whole,) = joint.join(parts, _CODEC)
    for x in (whole.result, whole.local, whole.owned):
        assert x is not None
        x.mul_(2)
    joint.give_back_result(whole)
    joint.give_back_local(whole)
    joint.give_back_owned(whole)
    for part, fresh in zip(
        parts, [_part(300, 1.0), _part(64, 1000.0), _part(1, 5000.0)], strict=True
    ):
        for x, before in ((part.result, fresh.result), (part.local, fresh.local)):
            assert x is not None
            assert before is not None
            assert torch.equal(x, 2 * before)
        assert part.owned is not None
        assert fresh.owned is not None
        assert torch.equal(part.owned, 2 * fresh.owned)


def test_what_is_large_or_plain_or_alone_or_rounded_at_random_stays_alone() -> None:
    small, large, plain = (
        _part(64, 0.0),
        _part(2**15, 0.0),
        _part(64, 0.0, plain_dtype=torch.float32),
    )
    assert joint.join([small, large, plain], _CODEC) == [small, large, plain]
    two = [small, _part(64, 0.0)]
    assert joint.join(two, codec(block_size=64, rounding="stochastic")) is two
    joined = joint.join([large, *two, plain], _CODEC)
    assert joined[0].members == two
    assert joined[1] is large
    assert joined[2] is plain
