"""The program runs: two processes train in 8 bits, and a bad option is refused in one line."""

import re

import pytest

from comm import ddp_example

# The digits' classes are told apart by this network in every run that was seen, at 96% or more.
_MIN_ACCURACY = 93.0

_MAX_RATIO = 0.27


def test_trains_and_sends_a_quarter(capfd: pytest.CaptureFixture[str]) -> None:
    assert ddp_example.main(["--nproc", "2"]) == 0
    line = capfd.readouterr().out
    found = re.search(r"2 processes, int8 .*: accuracy ([\d.]+)%, sent ([\d.]+) of", line)
    assert found, line
    accuracy, ratio = map(float, found.groups())
    assert accuracy > _MIN_ACCURACY
    assert 0.25 < ratio < _MAX_RATIO


@pytest.mark.parametrize("given", ["0", "1000", "two"])
def test_refuses_another_number_of_processes(
    given: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit, match="2"):
        ddp_example.main(["--nproc", given])
    assert f"must be a whole number from 1 to 64, got '{given}'" in capsys.readouterr().err
