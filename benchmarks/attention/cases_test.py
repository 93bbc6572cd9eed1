"""What is timed: operations, masks and sizes, against counts by hand."""

import numpy as np
import pytest

from benchmarks.attention.cases import (
    DEFAULT,
    DOCUMENTS,
    FEATURES,
    FULL,
    PLAIN,
    QUICK,
    WINDOW_LEFT,
    Case,
    Preset,
    directions,
    make_case,
    make_inputs,
    memory_cases,
    on_device,
    operations,
    time_cases,
    visible,
)
from kernels.attention.contract import Sizes


def test_operations_by_hand() -> None:
    full = Case(PLAIN, "float32", False, Sizes(2, 100, 50, 3, 3, 8))
    assert operations(full, "forward") == 4 * 2 * 3 * 8 * 100 * 50
    assert operations(full, "backward") == 2.5 * operations(full, "forward")
    assert operations(full, "both") == 3.5 * operations(full, "forward")
    causal = Case(PLAIN, "float32", True, Sizes(2, 100, 100, 3, 3, 8))
    assert operations(causal, "forward") == 4 * 2 * 3 * 8 * 100 * 100 / 2


def test_operations_of_a_window_are_its_pairs() -> None:
    length = 1000
    case = Case("window", "float32", True, Sizes(1, length, length, 1, 1, 1))
    pairs = sum(min(i, WINDOW_LEFT) + 1 for i in range(length))
    assert operations(case, "forward") == 4 * pairs


def test_operations_of_documents_are_their_triangles() -> None:
    case = Case("segments", "float32", True, Sizes(1, 400, 400, 1, 1, 1))
    each = 400 // DOCUMENTS
    assert operations(case, "forward") == 4 * DOCUMENTS * each * (each + 1) // 2


def test_last_query_sees_the_last_key() -> None:
    seen = visible(Case(PLAIN, "float32", True, Sizes(1, 2, 4, 1, 1, 8)))
    assert seen.tolist() == [[True, True, True, False], [True, True, True, True]]


def test_inputs_have_the_shapes_and_are_always_the_same() -> None:
    case = make_case("cpu", "gqa", "float32", True, 12, 16)
    inputs = make_inputs(case)
    assert inputs.q.shape == inputs.grad_out.shape == (1, 12, 8, 16)
    assert inputs.k.shape == inputs.v.shape == (1, 12, 2, 16)
    assert inputs.segment_ids.tolist() == [[0] * 3 + [1] * 3 + [2] * 3 + [3] * 3]
    np.testing.assert_array_equal(inputs.q, make_inputs(case).q)


def test_decode_has_one_query_and_no_backward_pass() -> None:
    case = make_case("cpu", "decode", "float32", False, 64, 16)
    assert (case.sizes.seq_q, case.sizes.seq_k) == (1, 64)
    assert directions(case) == ("forward",)


@pytest.mark.parametrize("length", [512, 16384])
def test_cuda_batches_have_one_number_of_tokens(length: int) -> None:
    sizes = make_case("cuda", PLAIN, "bfloat16", True, length, 128).sizes
    assert sizes.batch * sizes.seq_q == 16384
    assert sizes.num_heads * sizes.head_dim == 2048


@pytest.mark.parametrize("preset", [QUICK, DEFAULT, FULL])
def test_lengths_of_a_kind_rise(preset: Preset) -> None:
    cases = list(time_cases("cpu", preset))
    kinds: dict[object, list[int]] = {}
    for case in cases:
        kind = (case.feature, case.dtype, case.causal, case.sizes.head_dim)
        kinds.setdefault(kind, []).append(case.sizes.seq_k)
    assert all(lengths == sorted(set(lengths)) for lengths in kinds.values())


def test_default_has_what_the_aims_are_about() -> None:
    cases = list(time_cases("cpu", DEFAULT))
    assert {case.feature for case in cases} == set(FEATURES)
    plain = [case for case in cases if case.feature == PLAIN]
    assert {case.sizes.seq_k for case in plain} == {2**n for n in range(7, 14)}
    assert {case.sizes.head_dim for case in plain} == {64, 128}
    assert {case.causal for case in plain} == {False, True}
    assert len({case.sizes.seq_k for case in memory_cases("cpu", DEFAULT)}) >= 2


def test_cuda_goes_to_16k() -> None:
    assert max(on_device(DEFAULT, "cuda").lengths) == 16384
    assert on_device(QUICK, "cuda") == QUICK
