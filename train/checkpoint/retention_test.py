"""What stays is what the policy says, and always the newest."""

from hypothesis import given
from hypothesis import strategies as st

from train.checkpoint.retention import kept
from train.config.checkpoint import CheckpointConfig

_STEPS = st.sets(st.integers(min_value=1, max_value=60), max_size=30)


@given(_STEPS, st.integers(min_value=1, max_value=5), st.none() | st.integers(1, 20))
def test_kept(steps: set[int], last: int, every: int | None) -> None:
    stay = kept(steps, CheckpointConfig(keep_last=last, keep_every_steps=every))
    assert stay <= steps
    for step in steps:
        newer = sum(other > step for other in steps)
        assert (step in stay) == (newer < last or (every is not None and step % every == 0))
