"""No step holds a second copy of the weights."""

from collections.abc import Callable

import pytest

from registry.load_bench import STEPS, Measurement, measure

MIB = 2**20
SIZE_BYTES = 64 * MIB

# What a step takes whatever the size: buffers, parsed messages, the allocator's arenas.
FIXED_BYTES = 12 * MIB

# Of the weights' size: an artifact that is loaded is in memory once.
AT_MOST = {"publish": 0.0, "read_descriptor": 0.0, "verify": 0.0, "load": 1.1, "load, mapped": 0.0}


@pytest.fixture(scope="module")
def measured(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Measurement]:
    """Each step, of one artifact."""
    directory = tmp_path_factory.mktemp("bench") / "artifact"
    return {step: measure(step, directory, SIZE_BYTES) for step in STEPS}


@pytest.mark.parametrize("step", AT_MOST)
def test_weights_are_in_memory_once_at_most(
    measured: dict[str, Measurement], step: str, record_property: Callable[[str, object], None]
) -> None:
    peak_bytes = measured[step].peak_bytes
    record_property("peak_mib", round(peak_bytes / MIB, 1))
    assert peak_bytes <= AT_MOST[step] * SIZE_BYTES + FIXED_BYTES


def test_measurement_sees_what_is_loaded(measured: dict[str, Measurement]) -> None:
    """So that the test above could fail. The kernel counts pages by the batch."""
    assert measured["load"].peak_bytes >= 0.9 * SIZE_BYTES
