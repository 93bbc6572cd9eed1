"""Gradients of ALiBi's slopes, sums of many terms that cancel, are as good as the plain formula's.

Both frameworks give the same bits of them: attention_native_test.py.
"""

import itertools

import numpy as np
import pytest
import torch

from kernels.attention import cases, torch_op
from kernels.attention.contract import Sizes
from kernels.attention.shapes import Features
from kernels.testing.accuracy import in_its_dtypes, through_torch
from kernels.testing.torch_run import differentiate

# Over many heads, so that no luck of the plain formula with a single one counts.
ERROR_FACTOR = 2.0

CAUSAL = Features(alibi=True, causal=True)
PROBLEMS = {
    "two sides": (Sizes(1, 600, 600, 8, 8, 32), Features(alibi=True)),
    "causal": (Sizes(1, 700, 700, 8, 4, 64), CAUSAL),
    "batches": (Sizes(8, 200, 200, 8, 8, 32), CAUSAL._replace(window=(100, None))),
    "more queries": (Sizes(2, 1200, 200, 8, 8, 16), CAUSAL._replace(window=(150, None))),
    "many batches": (Sizes(37, 50, 50, 8, 8, 16), CAUSAL),
    "dropout": (Sizes(2, 200, 200, 8, 8, 32), CAUSAL._replace(dropout_rate=0.3)),
}
DTYPES = [torch.float32, torch.bfloat16, torch.float16]

# The dtype changes from one problem to the next; two that are quick meet all.
CASES = [
    *zip(PROBLEMS, itertools.cycle(DTYPES), strict=False),
    *itertools.product(["many batches", "dropout"], DTYPES),
]


def _root_mean_square(x: np.ndarray) -> float:
    return float(np.sqrt(np.mean(x**2)))


@pytest.mark.parametrize(("problem", "dtype"), dict.fromkeys(CASES), ids=str)
def test_error_is_at_most_twice_the_plain_formulas(problem: str, dtype: torch.dtype) -> None:
    sizes, features = PROBLEMS[problem]
    case = cases.make_case(sizes, dtype, features)
    expected = case.oracle()["grad_slopes"]
    plain, found = (
        results["grad_slopes"].double().numpy() - expected
        for results in (
            differentiate(case.plain, *in_its_dtypes(case)),
            through_torch(case, torch_op.attention),
        )
    )
    assert _root_mean_square(found) <= ERROR_FACTOR * _root_mean_square(plain)
    assert np.max(np.abs(found)) <= ERROR_FACTOR * np.max(np.abs(plain))
