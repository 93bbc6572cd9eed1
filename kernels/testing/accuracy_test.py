"""The harness itself: an oracle is computed once a case, and what is not right is refused."""

import dataclasses
import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

from kernels.testing import accuracy
from kernels.testing.error_table import ErrorTable
from kernels.testing.torch_run import Tensors, differentiate

X = torch.tensor([0.5, -1.0, 2.0], dtype=torch.float64)


@dataclasses.dataclass
class Square:
    """The operation y = x^2, with the sum of y in the type of the sums."""

    dtype: torch.dtype = torch.bfloat16
    num_oracles: int = 0

    sums = ("total",)
    longest_sum = 3

    @property
    def inputs(self) -> Tensors:
        return {"x": X}

    @property
    def cotangents(self) -> Tensors:
        return {"y": torch.ones_like(X), "total": torch.ones((), dtype=torch.float64)}

    def num_roundings(self, name: str) -> float:
        return 1.0

    def call(
        self, operation: Callable[..., Any], array: Callable[[Any], Any], **inputs: Any
    ) -> dict[str, Any]:
        return operation(**inputs)

    def oracle(self) -> accuracy.Oracle:
        self.num_oracles += 1
        x = X.numpy()
        return {"y": x**2, "total": np.sum(x**2), "grad_x": 4 * x}

    def plain(self, *, x: torch.Tensor) -> dict[str, torch.Tensor]:
        return {"y": x**2, "total": (x**2).sum().to(accuracy.sum_dtype(self.dtype))}


def _right(case: Square) -> dict[str, torch.Tensor]:
    return accuracy.through_torch(case, case.plain)


def test_oracle_is_computed_once_however_many_backends_there_are() -> None:
    case, table = Square(), ErrorTable()
    table.check("three numbers", case, dict.fromkeys("abc", _right))
    assert case.num_oracles == 1
    assert [line.split()[:3] for line in str(table).splitlines()[3:6]] == [
        [name, "bfloat16", "1"] for name in "abc"
    ]


def test_gradients_are_those_of_all_results() -> None:
    inputs, cotangents = accuracy.in_its_dtypes(Square(torch.float64))
    results = differentiate(Square(torch.float64).plain, inputs, cotangents)
    assert list(results) == ["y", "total", "grad_x"]
    torch.testing.assert_close(results["grad_x"], 4 * X)


@pytest.mark.parametrize("dtype", accuracy.DTYPES, ids=str)
def test_bar_is_so_many_roundings(dtype: torch.dtype) -> None:
    case = Square(dtype)
    expected = accuracy.expect(case)
    # The plain implementation is exact here, and the largest gradient is 8.
    sums = torch.finfo(accuracy.sum_dtype(dtype)).eps
    bar = 8 * accuracy.ROUNDINGS * (torch.finfo(dtype).eps + math.sqrt(3) * sums)
    assert expected.bars["grad_x"] == pytest.approx(bar)
    results = _right(case)

    def off_by(error: float) -> dict[str, torch.Tensor]:
        return results | {"grad_x": (4 * X + error).to(dtype)}

    expected.check(off_by(0.9 * bar), "it")
    with pytest.raises(AssertionError, match=r"it: grad_x is off by .*, not "):
        expected.check(off_by(1.6 * bar), "it")


@pytest.mark.parametrize(
    "wrong",
    [
        {"y": torch.full((3,), torch.nan, dtype=torch.bfloat16)},
        {"y": torch.full((3,), torch.inf, dtype=torch.bfloat16)},
        {"y": (X**2).float()},
        {"total": (X**2).sum().bfloat16()},
        {"y": (X**2).bfloat16()[None]},
        {"z": X},
    ],
    ids=["nan", "infinity", "dtype", "dtype of the sums", "shape", "name"],
)
def test_wrong_result_is_refused(wrong: dict[str, torch.Tensor]) -> None:
    case = Square()
    with pytest.raises(AssertionError):
        ErrorTable().check("three numbers", case, {"backend": lambda case: _right(case) | wrong})


def test_missing_result_is_refused() -> None:
    results = _right(Square())
    del results["total"]
    with pytest.raises(AssertionError):
        accuracy.expect(Square()).check(results, "it")


def test_covering_lets_any_two_meet() -> None:
    names = "abcd"
    grid = [(size, features) for size in names for features in names]
    cases = accuracy.covering(names, names, grid)
    assert [case[:2] for case in cases] == grid
    assert len({(size, dtype) for size, _, dtype in cases}) == 16
    assert len({(features, dtype) for _, features, dtype in cases}) == 16
