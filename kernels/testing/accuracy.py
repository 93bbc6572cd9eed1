"""How good results must be, for every operation that has an oracle in float64.

An operation's `cases.py` makes cases. `expect` computes the oracle of one, once, and what it
returns judges the results of any number of backends. The rule is FlashAttention's: the error
against float64 is at most twice that of a plain implementation in the same precision, plus a few
roundings.

Reference: flash-attention's tests/cute/test_flash_attn.py.
"""

from collections.abc import Callable, Collection, Iterable, Mapping
from typing import Any, NamedTuple, Protocol, TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray

from kernels.testing.torch_run import Tensors, differentiate

# Allowed error as a multiple of the plain implementation's, which rounds in the same places but in
# another order.
ERROR_FACTOR = 2.0

# Allowed besides: this many roundings of the largest value in the dtype, and as many in the type of
# the sums, which grow with the square root of the longest sum. Gradients need the latter: they add
# up differences of sums, equal ones where a token sees a single one, where the plain implementation
# is exact.
ROUNDINGS = 4

# Of all that the CPU takes.
DTYPES = (torch.float64, torch.float32, torch.bfloat16, torch.float16)

Oracle: TypeAlias = dict[str, NDArray[np.float64]]


class Case(Protocol):
    """A problem of an operation, whose tensors hold values of its dtypes, in float64.

    Results are named, and the gradient of an input by "grad_" and its name.

    Attributes:
      dtype: of the problem.
      sums: the inputs and results that have the type of the sums.
      inputs: what the operation takes and is differentiated with respect to.
      cotangents: the gradients of the results, by the results' names.
      longest_sum: terms of the longest sum.
    """

    @property
    def dtype(self) -> torch.dtype: ...
    @property
    def sums(self) -> Collection[str]: ...
    @property
    def inputs(self) -> Tensors: ...
    @property
    def cotangents(self) -> Tensors: ...
    @property
    def longest_sum(self) -> int: ...

    def call(
        self, operation: Callable[..., Any], array: Callable[[Any], Any], **inputs: Any
    ) -> dict[str, Any]:
        """Returns the results of the operation, of either framework.

        Args:
          operation: the public function.
          array: makes an array of the framework of one of numpy's.
          **inputs: `inputs`, as the framework has them.
        """
        ...

    def oracle(self) -> Oracle:
        """Returns results and gradients by the specification."""
        ...

    def plain(self, **inputs: torch.Tensor) -> Tensors:
        """Returns the results by the textbook, in the dtypes of the inputs."""
        ...

    def num_roundings(self, name: str) -> float:
        """Returns how many roundings of its largest value a result is allowed for each of one."""
        ...


class Expected(NamedTuple):
    """What is right for a case, and how far off results may be.

    Attributes:
      want: the oracle.
      dtypes: those of the results.
      plain_errors: the largest absolute errors of the plain implementation.
      bars: the largest that are allowed.
    """

    want: Oracle
    dtypes: dict[str, torch.dtype]
    plain_errors: dict[str, float]
    bars: dict[str, float]

    def errors(self, got: Tensors) -> dict[str, float]:
        """Returns the largest absolute error of each result; that of a NaN is infinite.

        Asserts on the way that they are there, and that their shapes and dtypes are right.
        """
        return _errors(self.want, self.dtypes, got)

    def check(self, got: Tensors, whose: str) -> None:
        """Asserts that the results of `whose` are good enough."""
        self.check_errors(self.errors(got), whose)

    def check_errors(self, found: Mapping[str, float], whose: str) -> None:
        """Asserts that errors, as `errors` returns them, are no larger than allowed."""
        for name, error in found.items():
            bar = self.bars[name]
            assert error <= bar, f"{whose}: {name} is off by {error}, not {bar}"


def expect(case: Case) -> Expected:
    """Computes the oracle and the plain implementation of a case, which take most of a test."""
    want = case.oracle()
    dtypes = {name: dtype_of(case, name.removeprefix("grad_")) for name in want}
    inputs, cotangents = in_its_dtypes(case)
    plain_errors = _errors(want, dtypes, differentiate(case.plain, inputs, cotangents))
    rounding = torch.finfo(case.dtype).eps
    rounding += torch.finfo(sum_dtype(case.dtype)).eps * case.longest_sum**0.5
    bars = {
        name: ERROR_FACTOR * plain_errors[name]
        + ROUNDINGS * rounding * case.num_roundings(name) * max(1.0, _largest(x))
        for name, x in want.items()
    }
    return Expected(want, dtypes, plain_errors, bars)


def through_torch(
    case: Case, operation: Callable[..., Any], device: str = "cpu"
) -> dict[str, torch.Tensor]:
    """Returns the results and gradients of a function of `torch_op` on a device."""

    def call(**inputs: torch.Tensor) -> Tensors:
        return case.call(operation, lambda x: torch.from_numpy(x).to(device), **inputs)

    return differentiate(call, *in_its_dtypes(case, device))


def in_its_dtypes(case: Case, device: str = "cpu") -> tuple[Tensors, Tensors]:
    """Returns the inputs and the cotangents of a case as a framework gets them."""
    inputs, cotangents = (
        {name: x.to(device, dtype_of(case, name)) for name, x in tensors.items()}
        for tensors in (case.inputs, case.cotangents)
    )
    return inputs, cotangents


def dtype_of(case: Case, name: str) -> torch.dtype:
    """Returns the dtype of an input or a result."""
    return sum_dtype(case.dtype) if name in case.sums else case.dtype


def sum_dtype(dtype: torch.dtype) -> torch.dtype:
    """Returns the type of the sums."""
    return torch.float64 if dtype == torch.float64 else torch.float32


def covering(
    sizes: Iterable[str], features: Iterable[str], grid: Collection[tuple[str, str]]
) -> list[tuple[str, str, torch.dtype]]:
    """Returns a grid of (size, features) with a dtype that changes from one to the next.

    So any two of size, features and dtype meet in some case.
    """
    names = list(features)
    return [
        (size, name, DTYPES[(i + j) % len(DTYPES)])
        for i, size in enumerate(sizes)
        for j, name in enumerate(names)
        if (size, name) in grid
    ]


def _errors(
    want: Oracle, dtypes: Mapping[str, torch.dtype], got: Mapping[str, torch.Tensor]
) -> dict[str, float]:
    assert got.keys() == want.keys()
    for name, x in got.items():
        assert x.dtype == dtypes[name], name
        assert tuple(x.shape) == want[name].shape, name
    return {name: _error(got[name].detach().cpu().double().numpy(), x) for name, x in want.items()}


def _error(got: NDArray[np.float64], want: NDArray[np.float64]) -> float:
    """Infinities agree only with themselves."""
    difference = np.abs(np.subtract(got, want, where=got != want, out=np.zeros(want.shape)))
    return float(np.max(np.nan_to_num(difference, nan=np.inf), initial=0.0))


def _largest(x: NDArray[np.float64]) -> float:
    return float(np.max(np.abs(x), initial=0.0, where=np.isfinite(x)))
