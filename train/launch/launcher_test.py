"""Ranks run together, end together, and the first cause of their end is the one reported."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from train.launch.heartbeat import MIN_LIMIT_S
from train.launch.launcher import RankError, run_ranks
from train.testing import example_ranks

_ENDED_WITHIN_S = 30.0

_SCRIPT = """
import sys
from functools import partial
from pathlib import Path
from train.testing import example_ranks
from train.launch.launcher import run_ranks

if __name__ == "__main__":
    arguments = Path(sys.argv[1]), False
    run_ranks(example_ranks.write_until_ended, 2, arguments, on_message=partial(print, flush=True))
"""


def _ignore(message: object) -> None:
    pass


def test_returns_what_every_rank_returned_and_passes_on_what_they_sent() -> None:
    messages: list[object] = []
    results = run_ranks(example_ranks.report, 3, ("hello",), on_message=messages.append)
    assert results == [0, 1, 4]
    assert sorted(map(str, messages)) == [f"hello from {rank}" for rank in range(3)]


def test_an_expected_failure_is_raised_as_it_is() -> None:
    with pytest.raises(ValueError, match="^no such thing$"):
        run_ranks(
            example_ranks.fail,
            2,
            (ValueError("no such thing"),),
            on_message=_ignore,
            expected=(ValueError,),
        )


def test_an_unexpected_failure_says_which_rank_and_where() -> None:
    with pytest.raises(RankError) as caught:
        run_ranks(example_ranks.fail, 2, (ValueError("boom"),), on_message=_ignore)
    summary, _, details = str(caught.value).partition("\n\n")
    assert summary == "rank 1 failed: ValueError: boom"
    assert "example_ranks.py" in details


def test_a_killed_rank_is_the_cause_of_what_the_others_complain_of() -> None:
    with pytest.raises(RankError, match="^rank 1 was killed by SIGKILL"):
        run_ranks(example_ranks.die, 2, (), on_message=_ignore)


@pytest.mark.parametrize(
    ("how", "said"),
    [
        ("asleep", "rank 1 is missing, for which the others wait; all"),
        ("stopped", "rank 1 is missing, for which the others wait; it does not run; all"),
        ("together", "all wait at the same place; all"),
    ],
)
def test_who_is_missing_is_named(how: str, said: str) -> None:
    with pytest.raises(RankError) as failed:
        run_ranks(example_ranks.hang, 3, (how,), on_message=_ignore, hang_timeout_s=MIN_LIMIT_S)
    assert str(failed.value) == (
        f"no rank has come any further for {MIN_LIMIT_S:g} s: {said} ranks were stopped"
    )


def test_when_one_fails_the_others_clean_up_and_end(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="gives up"):
        run_ranks(
            example_ranks.write_until_ended,
            3,
            (tmp_path, True),
            on_message=_ignore,
            expected=(ValueError,),
        )
    assert list(tmp_path.iterdir()) == []


def test_when_whoever_listens_fails_the_ranks_end(tmp_path: Path) -> None:
    def give_up(message: object) -> None:
        raise LookupError("not what I wanted to hear")

    with pytest.raises(LookupError):
        run_ranks(example_ranks.write_until_ended, 2, (tmp_path, False), on_message=give_up)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_ranks_end_with_their_parent(tmp_path: Path, how: signal.Signals) -> None:
    ranks_dir = tmp_path / "ranks"
    ranks_dir.mkdir()
    script = tmp_path / "script.py"
    script.write_text(_SCRIPT)
    with subprocess.Popen(
        [sys.executable, script, ranks_dir],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    ) as process:
        assert sorted([process.stdout.readline(), process.stdout.readline()]) == ["0\n", "1\n"]
        pids = [int(path.read_text()) for path in ranks_dir.iterdir()]
        if how == signal.SIGINT:
            os.killpg(process.pid, how)  # as a terminal does
        else:
            process.send_signal(how)
        _, stderr = process.communicate()
    assert process.returncode == -how
    assert stderr.count("Traceback") == (how == signal.SIGINT)  # the parent's alone
    _await_end(pids)
    assert list(ranks_dir.iterdir()) == []


def _await_end(pids: list[int]) -> None:
    deadline_s = time.monotonic() + _ENDED_WITHIN_S
    while any(_is_running(pid) for pid in pids):
        assert time.monotonic() < deadline_s, "a rank outlived its parent"
        time.sleep(0.05)


def _is_running(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes() != b""  # that of a zombie is empty
    except OSError:
        return False
