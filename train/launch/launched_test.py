"""A launcher's rank is known by what launchers set, all of it."""

import pytest

from train.launch.launched import Launched, launched

_ALL = {
    "RANK": "5",
    "LOCAL_RANK": "1",
    "WORLD_SIZE": "8",
    "MASTER_ADDR": "10.0.0.1",
    "MASTER_PORT": "29500",
}


def test_a_rank_of_a_launcher_knows_its_place() -> None:
    assert launched(_ALL) == Launched(rank=5, local_rank=1, world_size=8)


def test_who_was_started_by_hand_is_no_rank() -> None:
    assert launched({"PATH": "/bin", "MASTER_ADDR": "10.0.0.1", "LOCAL_RANK": "0"}) is None


def test_what_is_said_by_half_is_refused() -> None:
    with pytest.raises(ValueError, match="^WORLD_SIZE set, and RANK, LOCAL_RANK, MASTER_ADDR, MAS"):
        launched({"WORLD_SIZE": "2"})


@pytest.mark.parametrize("wrong", [{"RANK": "8"}, {"RANK": "x"}, {"LOCAL_RANK": "6"}])
def test_what_is_no_place_is_refused(wrong: dict[str, str]) -> None:
    with pytest.raises(ValueError, match="WORLD_SIZE=8 is no rank of a world; start it by torchr"):
        launched({**_ALL, **wrong})
