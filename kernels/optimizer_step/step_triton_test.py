"""The Triton kernel, interpreted, against the C++ one: every bit of weights and slots."""

import pytest

from kernels.dispatch import ENVIRONMENT_VARIABLE
from kernels.optimizer_step import cases, contract


@pytest.mark.parametrize("proximal", [False, True], ids=["decoupled", "proximal"])
@pytest.mark.parametrize("in_bytes", [False, True], ids=["floats", "bytes"])
@pytest.mark.parametrize("dtype", contract.DTYPES)
@pytest.mark.parametrize("rule", contract.RULES)
def test_equals_the_cpu(
    rule: str, dtype: str, in_bytes: bool, proximal: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = {"in_bytes": in_bytes, "proximal": proximal, "device": "cpu"}
    monkeypatch.setenv(ENVIRONMENT_VARIABLE, "cpu")
    expected = cases.run(rule, dtype, **settings)
    monkeypatch.setenv(ENVIRONMENT_VARIABLE, "triton")
    cases.assert_same_bits(cases.run(rule, dtype, **settings), expected)
