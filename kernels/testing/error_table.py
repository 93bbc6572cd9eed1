"""A suite's errors, which the log of a passing run shows too."""

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import pytest
import torch

from kernels.testing import accuracy
from kernels.testing.accuracy import Case
from kernels.testing.torch_run import Tensors


class ErrorTable:
    """The largest errors of each backend and dtype, and the one that came nearest its bar."""

    def __init__(self) -> None:
        self._rows: dict[tuple[str, str], dict[str, float]] = {}
        self._cases: dict[tuple[str, str], int] = {}
        self._worst = 0.0
        self._worst_case = "none"

    def check(self, name: str, case: Case, runs: Mapping[str, Callable[[Case], Tensors]]) -> None:
        """Asserts that the results of each backend are good enough, by one oracle for all."""
        expected = accuracy.expect(case)
        self._add("plain torch", case.dtype, expected.plain_errors)
        for backend, run in runs.items():
            found = expected.errors(run(case))
            self._add(backend, case.dtype, found)
            for result, error in found.items():
                if (ratio := error / expected.bars[result]) > self._worst:
                    self._worst, self._worst_case = ratio, f"{result} of {name}, {case.dtype}"
            expected.check_errors(found, backend)

    def _add(self, backend: str, dtype: torch.dtype, found: dict[str, float]) -> None:
        key = (backend, str(dtype).removeprefix("torch."))
        row = self._rows.setdefault(key, {})
        self._cases[key] = self._cases.get(key, 0) + 1
        for name, error in found.items():
            row[name] = max(error, row.get(name, 0.0))

    def __str__(self) -> str:
        names = list(dict.fromkeys(name for row in self._rows.values() for name in row))
        header = f"{'backend':<32}{'dtype':<10}{'cases':>6}"
        widths = {name: max(9, len(name)) + 2 for name in names}
        header += "".join(f"{name:>{widths[name]}}" for name in names)
        lines = [
            f"{backend:<32}{dtype:<10}{self._cases[backend, dtype]:>6}"
            + "".join(f"{row.get(name, 0.0):>{width}.1e}" for name, width in widths.items())
            for (backend, dtype), row in sorted(self._rows.items())
        ]
        title = "largest absolute error against float64"
        worst = f"the worst at {self._worst:.2f} of what is allowed: {self._worst_case}"
        return "\n".join(["", title, header, *lines, worst, ""])


def fixture() -> Any:
    """Returns a fixture of a module: a table that is printed after its tests."""

    @pytest.fixture(scope="module")
    def table(request: pytest.FixtureRequest) -> Iterator[ErrorTable]:
        collected = ErrorTable()
        yield collected
        with request.config.pluginmanager.getplugin("capturemanager").global_and_fixture_disabled():
            print(collected)

    return table
