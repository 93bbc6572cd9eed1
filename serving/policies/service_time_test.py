"""The estimate against the line that the batches were drawn from."""

import random

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from serving.policies.service_time import ServiceTime, ServiceTimeConfig, _line

A_S, B_S = 0.0005, 0.004
SIZES = [1, 2, 4, 8, 16, 32, 64]


def line(examples: int, a: float = A_S, b: float = B_S) -> float:
    return a * examples + b


def learned(batches: list[tuple[int, float]], **config: int) -> ServiceTime:
    target = ServiceTime(ServiceTimeConfig(**config))
    for examples, duration_s in batches:
        target.record(examples, duration_s)
    return target


def drawn(
    seed: int, count: int, noise: float = 0.1, outliers: float = 0.0
) -> list[tuple[int, float]]:
    draw = random.Random(seed)
    batches = []
    for _ in range(count):
        examples = draw.choice(SIZES)
        factor = draw.uniform(10, 100) if draw.random() < outliers else 1
        batches.append((examples, line(examples) * factor * draw.uniform(0.9, 1.1)))
    return batches


def test_nothing_is_estimated_from_nothing() -> None:
    assert learned([]).estimate(64) == 0
    assert learned([(1, 5.0), (1, 5.0)], skip=2).estimate(1) == 0


def test_an_exact_line_is_found() -> None:
    target = learned([(n, line(n)) for n in SIZES * 5], skip=0)
    assert target.per_example_s == pytest.approx(A_S, rel=1e-3)
    assert target.per_batch_s == pytest.approx(B_S, rel=1e-3)


def test_first_batches_are_skipped() -> None:
    slow_first = [(1, 10.0), (64, 10.0)]
    batches = [(n, line(n)) for n in SIZES]
    assert learned(slow_first + batches, skip=2).estimate(8) == learned(batches, skip=0).estimate(8)


@pytest.mark.parametrize("seed", range(20))
def test_pauses_of_the_process_move_it_little(seed: int) -> None:
    target = learned(drawn(seed, 200, outliers=0.05))
    for examples in SIZES:
        assert target.estimate(examples) == pytest.approx(line(examples), rel=0.3)


@pytest.mark.parametrize("factor", [0.1, 10.0])
def test_a_model_that_changes_its_speed_is_followed(factor: float) -> None:
    after = [(n, t * factor) for n, t in drawn(1, 70)]
    target = learned(drawn(0, 70) + after)
    for examples in SIZES:
        assert target.estimate(examples) == pytest.approx(factor * line(examples), rel=0.3)


def test_one_size_alone_promises_nothing_of_others() -> None:
    target = learned([(8, 0.01)] * 10)
    assert target.estimate(8) == pytest.approx(0.01)
    assert target.estimate(64) == pytest.approx(0.01)


def test_what_a_lone_one_takes_is_remembered_while_all_batches_are_large() -> None:
    target = learned([(n, line(n)) for n in SIZES * 5] + [(64, line(64))] * 500)
    for examples in SIZES:
        assert target.estimate(examples) == pytest.approx(line(examples), rel=0.05)


def test_what_a_larger_batch_takes_is_known_from_the_first_one() -> None:
    target = learned([(1, line(1))] * 100 + [(16, line(16))])
    assert target.estimate(64) == pytest.approx(line(64), rel=0.1)


def test_no_more_are_in_work_than_are_answered_within_a_time() -> None:
    target = learned([(n, line(n)) for n in SIZES * 5], skip=0)

    def within(answer_s: float, replicas: int = 1) -> float:
        return target.examples_within(answer_s, 64, replicas)

    # In two batches, of whatever sizes.
    assert line(10) + line(20) == pytest.approx(0.023)
    assert within(0.023) == pytest.approx(30, rel=0.01)
    assert within(0.023, replicas=3) == pytest.approx(90, rel=0.01)
    assert within(3.5 * line(64)) == 3 * 64
    # So few compute half of what full batches do, and two of them are in work.
    few = within(0.0) / 2
    assert few / line(int(few)) == pytest.approx(0.5 * 64 / line(64), rel=0.1)


def test_there_is_always_one_that_waits() -> None:
    target = learned([(n, 0.1 * n) for n in SIZES * 5], skip=0)
    assert target.examples_within(0.0, 64) == pytest.approx(2.0)


@given(
    st.lists(st.tuples(st.integers(1, 100), st.floats(0, 1e3)), min_size=1, max_size=60),
    st.integers(1, 200),
)
def test_it_is_never_negative_and_grows_with_the_batch(
    batches: list[tuple[int, float]], examples: int
) -> None:
    target = learned(batches, skip=0, window=20)
    assert 0 <= target.estimate(examples) <= target.estimate(examples + 1)
    assert target.per_example_s >= 0 and target.per_batch_s >= 0


@given(
    st.lists(
        st.tuples(st.integers(1, 100), st.floats(0, 10), st.floats(0.1, 10)),
        min_size=2,
        max_size=30,
    ).filter(lambda points: len({x for x, _, _ in points}) > 1)
)
def test_no_other_line_of_the_kind_is_closer(points: list[tuple[int, float, float]]) -> None:
    xs, ys, weights = np.array(points, np.float64).T

    def error(a: float, b: float) -> float:
        return float((weights * (a * xs + b - ys) ** 2).sum())

    # Among lines of a >= 0 and b >= 0 the problem is convex: what is least nearby is the least.
    a, b = _line(*map(list, zip(*points, strict=True)))  # type: ignore[arg-type]
    assert a >= 0 and b >= 0
    found = error(a, b)
    for da in (-1e-3, 0.0, 1e-3):
        for db in (-1e-2, 0.0, 1e-2):
            assert found <= error(max(0.0, a + da), max(0.0, b + db)) + 1e-9 * (1 + found)


def test_the_wait_counts_full_batches_ahead() -> None:
    target = learned([(n, line(n)) for n in SIZES * 5], skip=0)

    def wait(ahead: int, replicas: int = 1, running_s: float = 0.0) -> float:
        return target.wait_estimate(ahead, 4, 64, replicas, running_s)

    alone = pytest.approx(line(4), rel=1e-3)
    assert wait(0) == alone
    assert wait(60) == pytest.approx(line(64), rel=1e-3)  # it goes with those
    assert wait(64) == pytest.approx(line(64) + line(4), rel=1e-3)
    # Of two replicas one computes the batch ahead, and the other is free.
    assert wait(64, replicas=2) == alone
    assert wait(192, replicas=2) == pytest.approx(line(64) + line(4), rel=1e-3)
    assert wait(0, running_s=1.0) == pytest.approx(1.0 + line(4), rel=1e-3)


@given(
    waiting=st.lists(st.integers(1, 64), max_size=40),
    examples=st.integers(1, 64),
    replicas=st.integers(1, 4),
    running_s=st.floats(0, 1),
)
def test_nobody_is_answered_sooner(
    waiting: list[int], examples: int, replicas: int, running_s: float
) -> None:
    """Against replicas that take what waits in order, as much as fits, and never pause."""
    target = learned([(n, line(n)) for n in SIZES * 5], skip=0)
    free_at = [running_s] * replicas
    queue = [*waiting, examples]
    while queue:
        batch = queue.pop(0)
        while queue and batch + queue[0] <= 64:
            batch += queue.pop(0)
        replica = free_at.index(min(free_at))
        free_at[replica] += target.estimate(batch)
    answered = free_at[replica]
    least = target.wait_estimate(sum(waiting), examples, 64, replicas, running_s)
    assert least <= answered + 1e-9
