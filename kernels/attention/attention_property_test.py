"""Properties that attention has by its definition, on problems drawn at random."""

from typing import Any

import numpy as np
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from kernels.attention import cases, reference, torch_op
from kernels.attention.contract import Sizes
from kernels.attention.rope import Rope
from kernels.attention.shapes import Features
from kernels.testing.accuracy import expect, through_torch

# Two float64 sums over at most some hundred terms of size 1, in another order.
TOLERANCE = 1e-11

SETTINGS = settings(
    max_examples=30, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow]
)

# Blocks are 64 keys and 64 or 128 queries.
LENGTHS = st.one_of(st.integers(1, 9), st.integers(1, 140))
FEATURES = st.builds(
    Features,
    causal=st.booleans(),
    softmax_scale=st.sampled_from([None, 0.4]),
    alibi=st.booleans(),
    rope=st.sampled_from([None, "half", "interleaved", "partial"]),
    window=st.one_of(
        st.none(), st.tuples(*[st.one_of(st.none(), st.integers(0, 150)) for _ in range(2)])
    ),
    segments=st.booleans(),
    softcap=st.sampled_from([None, 1.5]),
    dropout_rate=st.sampled_from([0.0, 0.3]),
)


@st.composite
def sizes_of(draw: st.DrawFn) -> Sizes:
    group, num_kv_heads = draw(st.integers(1, 3)), draw(st.integers(1, 2))
    return Sizes(
        draw(st.integers(1, 2)),
        draw(LENGTHS),
        draw(LENGTHS),
        group * num_kv_heads,
        num_kv_heads,
        2 * draw(st.integers(1, 72)),
    )


@SETTINGS
@given(sizes_of(), FEATURES, st.sampled_from([torch.float64, torch.float32, torch.bfloat16]))
def test_random_problems_match_float64(
    sizes: Sizes, features: Features, dtype: torch.dtype
) -> None:
    case = cases.make_case(sizes, dtype, features)
    expect(case).check(through_torch(case, torch_op.attention), "torch")


def _case(sizes: Sizes) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    q, k, v = cases.make_case(sizes, torch.float64).inputs.values()
    return q, k, v


def _assert_equal(got: torch.Tensor, want: torch.Tensor) -> None:
    torch.testing.assert_close(got, want, rtol=TOLERANCE, atol=TOLERANCE)


@SETTINGS
@given(sizes_of(), st.randoms(use_true_random=False))
def test_order_of_the_keys_does_not_matter(sizes: Sizes, random: Any) -> None:
    q, k, v = _case(sizes)
    order = list(range(sizes.seq_k))
    random.shuffle(order)
    want = torch_op.attention(q, k, v, softcap=2.0)
    _assert_equal(torch_op.attention(q, k[:, order], v[:, order], softcap=2.0), want)


@SETTINGS
@given(sizes_of())
def test_scores_may_shift_by_a_constant_for_each_query(sizes: Sizes) -> None:
    q, k, v = _case(sizes)
    # The same vector added to every key adds the same number to all scores of a query.
    want = torch_op.attention(q, k, v, causal=True)
    _assert_equal(torch_op.attention(q, k + k[:, :1], v, causal=True), want)


@SETTINGS
@given(sizes_of(), st.data())
def test_masked_keys_are_as_removed_ones(sizes: Sizes, data: st.DataObject) -> None:
    q, k, v = _case(sizes)
    kept = data.draw(st.lists(st.booleans(), min_size=sizes.seq_k, max_size=sizes.seq_k))
    keep = torch.tensor(kept)
    segments = (
        torch.zeros(sizes.batch, sizes.seq_q, dtype=torch.int32),
        torch.where(keep, 0, -1).expand(sizes.batch, -1),
    )
    # Whatever stands in keys that are not seen, it must not show.
    poisoned = [x.masked_fill(~keep[:, None, None], 1e30) for x in (k, v)]
    got = torch_op.attention(q, *poisoned, segment_ids=segments)
    _assert_equal(got, torch_op.attention(q, k[:, keep], v[:, keep]))


@SETTINGS
@given(sizes_of(), st.integers(0, 100))
def test_window_is_the_same_as_slices(sizes: Sizes, left: int) -> None:
    q, k, v = _case(sizes._replace(seq_q=1))
    got = torch_op.attention(q, k, v, window=(left, 0))
    _assert_equal(got, torch_op.attention(q, k[:, -left - 1 :], v[:, -left - 1 :]))


@SETTINGS
@given(sizes_of(), FEATURES, st.data())
def test_chunks_of_queries_do_not_change_results(
    sizes: Sizes, features: Features, data: st.DataObject
) -> None:
    # The last queries on their own see what they see beside the others, and draw other coins.
    features = features._replace(dropout_rate=0.0)
    last = data.draw(st.integers(1, sizes.seq_q))
    case = cases.make_case(
        sizes._replace(seq_k=max(sizes.seq_q, sizes.seq_k)), torch.float64, features
    )
    q, k, v = (case.inputs[name] for name in "qkv")
    options = case.options(torch.from_numpy) | {"alibi_slopes": case.inputs.get("slopes")}
    whole = torch_op.attention(q, k, v, **options)
    if case.segments is not None:
        options["segment_ids"] = (case.segments[0][:, -last:], case.segments[1])
    part = torch_op.attention(q[:, -last:], k, v, **options)
    _assert_equal(part, whole[:, -last:])


@SETTINGS
@given(sizes_of(), st.integers(0, 100_000))
def test_rope_depends_on_distances_only(sizes: Sizes, offset: int) -> None:
    q, k, v = _case(sizes)
    want = torch_op.attention(q, k, v, rope=Rope())
    got = torch_op.attention(q, k, v, rope=Rope(offset=offset))
    # Angles of 1e5 radians have an absolute error of 1e-11.
    torch.testing.assert_close(got, want, rtol=1e-9, atol=1e-9)


@SETTINGS
@given(sizes_of(), FEATURES)
def test_values_of_one_give_one(sizes: Sizes, features: Features) -> None:
    case = cases.make_case(sizes, torch.float64, features._replace(dropout_rate=0.0))
    q, k, v = (case.inputs[name] for name in "qkv")
    options = case.options(torch.from_numpy) | {"alibi_slopes": case.inputs.get("slopes")}
    out = torch_op.attention(q, k, torch.ones_like(v), **options)
    seen = torch.from_numpy(reference.visible(sizes[:3], *case.lowered())).any(dim=-1)
    _assert_equal(out, seen[:, :, None, None].double().expand_as(out))


@SETTINGS
@given(sizes_of(), st.sampled_from(["q", "k", "v"]), st.booleans())
def test_nan_stays_visible(sizes: Sizes, where: str, causal: bool) -> None:
    inputs = dict(zip("qkv", (x.float() for x in _case(sizes)), strict=True))
    inputs[where] = inputs[where].clone()
    inputs[where][0, 0, 0, 0] = np.nan
    out = torch_op.attention(*inputs.values(), causal=causal)
    seen = not causal or sizes.seq_q <= sizes.seq_k or where != "q"
    assert bool(out[0].isnan().any()) == seen
    assert not out[1:].isnan().any()
