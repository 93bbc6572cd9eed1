"""Tensors as numpy's arrays and back, and results that must be the same bit for bit."""

from collections.abc import Mapping
from typing import Any

import ml_dtypes
import numpy as np
import torch
from numpy.typing import NDArray


def to_numpy(x: torch.Tensor) -> NDArray[Any]:
    """Returns the values as an array of the tensor's dtype on the host."""
    x = x.detach().cpu()
    if x.dtype == torch.bfloat16:  # Which numpy has none of its own of.
        return x.view(torch.uint16).numpy().view(ml_dtypes.bfloat16)
    return x.numpy()


def to_tensor(x: NDArray[Any]) -> torch.Tensor:
    """Returns the values as a tensor of the array's dtype on the CPU, which shares its memory."""
    if x.dtype == ml_dtypes.bfloat16:
        return torch.from_numpy(x.view(np.uint16)).view(torch.bfloat16)
    return torch.from_numpy(x)


def assert_same_bits(got: Mapping[str, NDArray[Any]], want: Mapping[str, NDArray[Any]]) -> None:
    """Asserts that results of the same names have the same bits, those of a NaN excepted."""
    assert got.keys() == want.keys()
    for name in want:
        assert got[name].dtype == want[name].dtype, name
        np.testing.assert_array_equal(_bits(got[name]), _bits(want[name]), err_msg=name)


def _bits(x: NDArray[Any]) -> NDArray[Any]:
    if x.dtype == np.uint8:
        return x
    bits = x.view(f"u{x.dtype.itemsize}")
    return np.where(np.isnan(x), bits.dtype.type(-1 & (2 ** (8 * x.dtype.itemsize) - 1)), bits)
