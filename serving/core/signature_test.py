"""What stands for a request before there is one."""

import numpy as np
import pytest

from serving.core.signature import TensorSpec, zeros


@pytest.mark.parametrize("batch_size", [1, 3])
def test_zeros_fit_the_signature(batch_size: int) -> None:
    batch = zeros(TensorSpec("x", "UINT8", (-1, 2, -1)), batch_size)
    assert batch.shape == (batch_size, 2, 1)
    assert batch.dtype == np.uint8
    assert not batch.any()
