"""The Triton kernel, interpreted, against the C++ one: every bit of weights and slots."""

import numpy as np
import pytest

from kernels.dispatch import ENVIRONMENT_VARIABLE
from kernels.optimizer_step import cases, contract
from kernels.testing.arrays import assert_same_bits

# Any two of rule, dtype, kind of slots and way that weights decay: what one of them changes is
# computed by itself.
_CASES = [
    (rule, dtype, (i + j) % 2 == 1, (i + j) // 2 % 2 == 1)
    for i, rule in enumerate(contract.RULES)
    for j, dtype in enumerate(contract.DTYPES)
]


# The interpreter computes with numpy, which tells of infinities that cancel out.
@pytest.mark.filterwarnings("ignore:invalid value encountered:RuntimeWarning")
@pytest.mark.parametrize(("rule", "dtype", "in_bytes", "proximal"), _CASES)
def test_equals_the_cpu(
    rule: str, dtype: str, in_bytes: bool, proximal: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = {"in_bytes": in_bytes, "proximal": proximal, "device": "cpu"}
    monkeypatch.setenv(ENVIRONMENT_VARIABLE, "cpu")
    expected = cases.run(rule, dtype, **settings)
    # The sizes are such that something is spoiled, and something not.
    assert {bool(np.isfinite(x).all()) for x in expected.values() if x.size} == {True, False}
    monkeypatch.setenv(ENVIRONMENT_VARIABLE, "triton")
    assert_same_bits(cases.run(rule, dtype, **settings), expected)
