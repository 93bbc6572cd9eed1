"""What the two frameworks' sides of the attention benchmark have in common."""

import contextlib
import os
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

from benchmarks.attention.cases import FEATURES, Case, Inputs
from benchmarks.harness.timing import Step
from kernels.dispatch import ENVIRONMENT_VARIABLE

OURS_TORCH = "ours, torch"
OURS_JAX = "ours, jax"
OURS_ROTATED_BEFORE = "ours, rotated before"
SDPA = "torch sdpa"
FLEX = "flex"
JAX_NN = "jax.nn"
XLA = "xla formula"

ALL_FEATURES = frozenset(FEATURES)


class UnavailableError(RuntimeError):
    """A side cannot do a case here; the message says why."""


def reason(error: Exception) -> str:
    """Returns why a side has no result, as one line for the record."""
    text = str(error).strip().splitlines()
    if isinstance(error, UnavailableError):
        return text[0]
    return f"{type(error).__name__}: {text[0]}" if text else type(error).__name__


def is_ours(side: str) -> bool:
    """Whether a side is one of ours, by its name."""
    return side.startswith("ours")


class Side(NamedTuple):
    """One way of computing attention.

    Attributes:
      prepare: (case, inputs, direction) -> the step to time. Whatever does not depend on q, k and v
        (masks, tables, compilation) is made here, so that no peer is timed with it. Raises
        UnavailableError.
      ours: the side of ours that it is compared with, in the same framework.
      features: those of `FEATURES` that it is timed with.
      score_arrays: how many float32 arrays [B, H, Sq, Sk] it holds at its peak.
    """

    prepare: Callable[[Case, Inputs, str], Step]
    ours: str
    features: frozenset[str] = ALL_FEATURES
    score_arrays: int = 0


def pinned_to(backend: str, side: Side, *, compiled: bool) -> Side:
    """Returns a side of ours whose kernels are dispatched to one backend, forward and backward.

    Args:
      backend: its name for `kernels.dispatch`.
      side: chooses by itself.
      compiled: its steps choose when they are prepared and not when they run.
    """

    def prepare(case: Case, inputs: Inputs, direction: str) -> Step:
        with _dispatch_to(backend):
            step = side.prepare(case, inputs, direction)
        return step if compiled else step._replace(run=lambda: _run_on(backend, step))

    return side._replace(prepare=prepare)


def _run_on(backend: str, step: Step) -> Any:
    with _dispatch_to(backend):
        return step.run()


@contextlib.contextmanager
def _dispatch_to(backend: str) -> Iterator[None]:
    before = os.environ.get(ENVIRONMENT_VARIABLE)
    os.environ[ENVIRONMENT_VARIABLE] = backend
    try:
        yield
    finally:
        if before is None:
            del os.environ[ENVIRONMENT_VARIABLE]
        else:
            os.environ[ENVIRONMENT_VARIABLE] = before
