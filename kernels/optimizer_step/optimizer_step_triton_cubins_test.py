"""The CUDA path as far as it goes without a GPU: cubins, their metadata and the launches.

A fake driver, compiled here, records what the launcher asks for. What every operation shares, such
as errors of the driver, is tested with attention.
"""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from kernels.optimizer_step import cases, contract, triton_kernels
from kernels.quantize.triton_tiles import TILE
from kernels.testing import cubins, fake_driver

ARCHS = cubins.archs()

# Spilled bytes of a thread: none.
MAX_SPILL_BYTES = 0

# Distinct and aligned to 16 bytes; nothing is read from them.
ADDRESSES = [0x10000 * (i + 1) for i in range(6)]
NUMBERS_ADDRESS = 0x7F0000

driver = fake_driver.fixture()


def _call(
    rule: str, tmp_path: Path, driver: Path, rows: list[list[int]], **changes: Any
) -> tuple[list[dict[str, str]], str]:
    """Runs one native call against the fake driver; returns its launches and the error output."""
    request = {
        "rule": contract.RULE_NAMES.index(rule),
        "decay_is_proximal": True,
        "weight_decay": 0.25,
        "hyperparameters": cases.NUMBERS[rule].hyperparameters,
        "numbers": NUMBERS_ADDRESS,
        "rows": [number for row in rows for number in row],
        **changes,
    }
    calls = [("step_triton", request)]
    log, errors = fake_driver.call(triton_kernels, calls, driver=driver, log=tmp_path / "log")
    return fake_driver.launches(log), errors


def _row(rule: str, size: int, dtype: str, *, in_bytes: bool, decays: bool, shift: int = 0) -> list:
    num_slots = cases.NUMBERS[rule].num_slots
    slot_bytes = contract.CODEC.payload_bytes(size) if in_bytes else 4 * size
    weight_bytes = (4 if dtype == "float32" else 2) * size
    num_bytes = [weight_bytes] * 2 + [slot_bytes] * num_slots
    arrays = [
        number
        for address, count in zip(ADDRESSES[: 2 + num_slots], num_bytes, strict=True)
        for number in (address + shift, count)
    ]
    return [size, contract.DTYPES.index(dtype), int(in_bytes), int(decays), 5, *arrays]


def test_every_variant_is_compiled_for_every_architecture_without_spills() -> None:
    found = cubins.by_name(triton_kernels)
    variants = {v.name: v for v in triton_kernels.VARIANTS}
    compiled = [v.name for v in cubins.compiled(triton_kernels)]
    assert {(name, arch) for name in compiled for arch in ARCHS} <= found.keys()
    for name, arch in found:
        metadata = cubins.agreeing(triton_kernels, variants[name], arch)
        spilled = metadata["spill_store_bytes"] + metadata["spill_load_bytes"]
        assert spilled <= MAX_SPILL_BYTES, (name, metadata)


def test_there_is_a_variant_for_every_rule_and_dtype() -> None:
    assert {v.name for v in triton_kernels.VARIANTS} == {
        f"{rule}_{dtype}_{slots}"
        for rule in contract.RULES
        for dtype in contract.DTYPES
        for slots in ("floats", "bytes")
    }


def test_constants_are_those_of_the_contract() -> None:
    rules = (
        triton_kernels.ADABELIEF,
        triton_kernels.ADAMW,
        triton_kernels.ADAN,
        triton_kernels.LION,
        triton_kernels.SOPHIA,
    )
    assert [rule.value for rule in rules] == list(range(len(contract.RULES)))
    assert triton_kernels.BLOCK.value == contract.CODEC.block_size
    assert triton_kernels.LEAST.value == contract.LEAST
    slot_seeds = [contract.seed(0, 0, slot) for slot in range(4)]
    assert slot_seeds == [0, *(seed.value for seed in triton_kernels.SLOT_SEEDS)]


@pytest.mark.parametrize("rule", contract.RULES)
def test_launches_a_program_for_each_tile_of_each_tensor(
    rule: str, tmp_path: Path, driver: Path
) -> None:
    rows = [
        _row(rule, 10_000, "bfloat16", in_bytes=True, decays=True),
        _row(rule, 0, "float32", in_bytes=False, decays=True),
        _row(rule, 7, "float32", in_bytes=False, decays=False),
    ]
    launches, stderr = _call(rule, tmp_path, driver, rows)
    assert stderr == ""
    assert [launch["grid"] for launch in launches] == ["3,1,1", "1,1,1"]
    assert {launch["stream"] for launch in launches} == {"0x777"}
    numbers = cases.NUMBERS[rule]
    for launch, size, decays in zip(launches, (10_000, 7), (True, False), strict=True):
        got = launch["arguments"].rstrip(",").split(",")
        pointers = [*ADDRESSES[: 2 + numbers.num_slots], *[0] * (4 - numbers.num_slots)]
        wanted = [NUMBERS_ADDRESS, NUMBERS_ADDRESS + 16, *pointers, size, 5]
        assert got[: len(wanted)] == list(map(str, wanted))
        hyper = [*numbers.hyperparameters, *[0.0] * (4 - len(numbers.hyperparameters))]
        rest = [1.0 - x if i < len(numbers.hyperparameters) else 0.0 for i, x in enumerate(hyper)]
        floats = [0.25 * decays, int(decays), *hyper, *rest[:3]]
        assert list(map(np.float32, got[len(wanted) : -2])) == list(map(np.float32, floats))


def test_sizes_have_64_bits(tmp_path: Path, driver: Path) -> None:
    size = 3 * 2**32 + 5
    rows = [_row("lion", size, "float32", in_bytes=False, decays=True)]
    (launch,), stderr = _call("lion", tmp_path, driver, rows)
    assert stderr == ""
    assert launch["grid"] == f"{-(-size // TILE.value)},1,1"
    assert str(size) in launch["arguments"].split(",")


def test_what_cannot_be_launched_is_named(tmp_path: Path, driver: Path) -> None:
    rows = [_row("lion", 10, "float32", in_bytes=False, decays=True, shift=8)]
    assert "must be aligned to 16 bytes" in _call("lion", tmp_path, driver, rows)[1]
    rows = [_row("lion", -1, "float32", in_bytes=False, decays=True)]
    assert "size must not be negative, got -1" in _call("lion", tmp_path, driver, rows)[1]
    _, stderr = _call("lion", tmp_path, driver, [], hyperparameters=[0.5])
    assert "hyperparameters must be as many as the rule takes, got 1" in stderr
