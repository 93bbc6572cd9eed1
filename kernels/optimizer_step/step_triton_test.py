"""The Triton kernel, interpreted, against the C++ one: every bit of weights and slots."""

import pytest

from kernels.dispatch import ENVIRONMENT_VARIABLE
from kernels.optimizer_step import cases, contract

# Every variant that is compiled. How weights decay is common to all, so that either way is tried
# with each rule, each dtype and each kind of slots, and not with each variant.
_CASES = [
    (rule, dtype, in_bytes, index % 2 == in_bytes)
    for rule in contract.RULES
    for index, dtype in enumerate(contract.DTYPES)
    for in_bytes in (False, True)
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
    assert {bool(x.isfinite().all()) for x in expected if x.numel()} == {True, False}
    monkeypatch.setenv(ENVIRONMENT_VARIABLE, "triton")
    cases.assert_same_bits(cases.run(rule, dtype, **settings), expected)
