"""Ray's store is where there is room for it, and a gateway without room for it says so."""

import shutil
from pathlib import Path

import pytest

from serving.control.object_store import OBJECT_STORE_BYTES, object_store
from serving.errors import StartError

SHARED, OWN = Path("/shared"), Path("/own")


@pytest.fixture
def free(monkeypatch: pytest.MonkeyPatch) -> dict[Path, int]:
    """Bytes that are free, by place; a place that is not named there is not."""
    free: dict[Path, int] = {}

    def disk_usage(place: Path) -> shutil._ntuple_diskusage:
        if place not in free:
            raise FileNotFoundError(place)
        return shutil._ntuple_diskusage(2**40, 2**40 - free[place], free[place])

    monkeypatch.setattr(shutil, "disk_usage", disk_usage)
    return free


@pytest.mark.parametrize("own", [0, 2**40])
def test_shared_memory_is_taken_if_it_is_large_enough(free: dict[Path, int], own: int) -> None:
    free.update({SHARED: OBJECT_STORE_BYTES, OWN: own})
    assert object_store(OWN, SHARED) == {"object_store_memory": OBJECT_STORE_BYTES}


@pytest.mark.parametrize("shared", [{}, {SHARED: OBJECT_STORE_BYTES - 1}])
def test_the_gateways_directory_stands_in(free: dict[Path, int], shared: dict[Path, int]) -> None:
    free.update({OWN: OBJECT_STORE_BYTES, **shared})
    assert object_store(OWN, SHARED)["_plasma_directory"] == "/own"


def test_without_room_it_says_what_to_give(free: dict[Path, int]) -> None:
    free.update({SHARED: 64 * 2**20, OWN: 8 * 2**20})
    message = r"Ray needs 80 MiB: /shared has 64 MiB free, and /own 8; give either more .*--shm"
    with pytest.raises(StartError, match=message):
        object_store(OWN, SHARED)
