"""What is read becomes tokens, in PyTorch; `flax_layer.py` is its twin."""

import torch
import torch.nn.functional as F
from torch import nn

from models.layers.embedding.config import InputConfig
from models.layers.fourier_features.torch_layer import FourierFeatures
from models.layers.linear.torch_layer import Linear


class Embedding(nn.Module):
    """A batch of what `config` says, `[batch, ...]`, to `[batch, seq_len, width]`."""

    def __init__(self, config: InputConfig, width: int):
        super().__init__()
        self.config = config
        has_tokens, features = config.tokens is not None, config.num_features
        self.weight = nn.Parameter(torch.zeros(features, width)) if has_tokens else None
        self.projection = None if has_tokens else Linear(features, width)
        vector = config.vector
        self.fourier_features = (
            FourierFeatures(vector.fourier_features, vector.num_values)
            if vector is not None and vector.fourier_features.enabled
            else None
        )

    @property
    def dtype(self) -> torch.dtype:
        """The dtype of its weights."""
        weight = self.weight if self.projection is None else self.projection.weight
        assert weight is not None
        return weight.dtype

    def forward(self, inputs: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
        self.config.check_shape(inputs.shape)
        if self.projection is not None:
            numbers = self._numbers(inputs)
            if self.fourier_features is not None:
                numbers = self.fourier_features(numbers)
            return self.projection(numbers.to(dtype))
        assert self.weight is not None
        # Padding has to be some token; it is looked at by nothing.
        return F.embedding(inputs.clamp(min=0), self.weight.to(dtype))

    def _numbers(self, inputs: torch.Tensor) -> torch.Tensor:
        """Returns what the linear layer makes tokens of, `[batch, seq_len, numbers]`."""
        if self.config.vector is not None:
            return inputs.reshape(inputs.shape[0], 1, self.config.vector.num_values)
        assert self.config.patches is not None
        return patchify(inputs, self.config.patches.patch_size)


def patchify(images: torch.Tensor, patch_size: int) -> torch.Tensor:
    """Cuts `[batch, height, width, channels]` into patches, row by row: `[batch, seq_len, -1]`."""
    batch, height, width, channels = images.shape
    rows, columns = height // patch_size, width // patch_size
    grid = images.reshape(batch, rows, patch_size, columns, patch_size, channels)
    return grid.permute(0, 1, 3, 2, 4, 5).reshape(batch, rows * columns, patch_size**2 * channels)
