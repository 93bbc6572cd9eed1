"""What stays is what the policy says, and always the newest and the one that is held."""

from collections.abc import Mapping

from hypothesis import given
from hypothesis import strategies as st

from train.checkpoint.retention import kept
from train.config.checkpoint import CheckpointConfig

_STEPS = st.sets(st.integers(min_value=1, max_value=60), max_size=30)


@given(
    _STEPS,
    st.integers(min_value=1, max_value=5),
    st.none() | st.integers(1, 20),
    st.none() | st.integers(1, 4),
    st.dictionaries(st.integers(1, 60), st.sampled_from([0.0, 0.5, 1.0]), max_size=30),
    st.none() | st.integers(1, 60),
)
def test_kept(
    steps: set[int],
    last: int,
    every: int | None,
    best: int | None,
    scores: Mapping[int, float],
    held: int | None,
) -> None:
    policy = CheckpointConfig(keep_last=last, keep_every_steps=every, keep_best=best)
    stay = kept(steps, policy, scores, held)
    assert stay <= steps
    for step in steps:
        newer = sum(other > step for other in steps)
        better = sum(
            scores[other] > scores[step] or (scores[other] == scores[step] and other < step)
            for other in steps & set(scores)
            if step in scores
        )
        assert (step in stay) == (
            newer < last
            or (every is not None and step % every == 0)
            or (best is not None and step in scores and better < best)
            or step == held
        )
