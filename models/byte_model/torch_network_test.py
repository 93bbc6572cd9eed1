"""The byte model sees no later byte, starts from uniform guesses, and can learn."""

import math

import pytest
import torch
import torch.nn.functional as F

from models.byte_model.config import NUM_BYTES, ByteModelConfig
from models.byte_model.torch_network import ByteModel

_CONFIG = ByteModelConfig(num_layers=2, embed_dim=32, num_heads=2, mlp_dim=64)

# Logits of small random embeddings are small, not zero.
_NEARLY_UNIFORM = 0.1

# Of 16 bytes that come equally often.
_WITHOUT_CONTEXT = math.log(16)


def _model() -> ByteModel:
    torch.manual_seed(0)
    return ByteModel(_CONFIG)


def _bytes(batch: int, seq_len: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(1)
    return torch.randint(0, NUM_BYTES, (batch, seq_len), generator=generator)


def test_a_byte_sees_itself_and_those_before() -> None:
    model, text = _model(), _bytes(1, 12)
    for name, parameter in model.named_parameters():
        if name.endswith("proj.weight"):  # zero at the start, when no byte sees another
            torch.nn.init.normal_(parameter, std=0.5)
    changed = text.clone()
    changed[0, 7] = (changed[0, 7] + 1) % NUM_BYTES
    difference = (model(text) - model(changed)).abs().amax(dim=-1)[0]
    assert torch.all(difference[:7] == 0)
    assert torch.all(difference[7:] > 0)


def test_starts_nearly_uniform() -> None:
    text = _bytes(4, 33)
    loss = F.cross_entropy(_model()(text[:, :-1]).flatten(0, 1), text[:, 1:].flatten())
    assert abs(loss.item() - math.log(NUM_BYTES)) < _NEARLY_UNIFORM


def test_learns_what_the_byte_before_says() -> None:
    model = _model()
    text = torch.arange(16).repeat(4, 4)
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
    for _ in range(40):
        loss = F.cross_entropy(model(text[:, :-1]).flatten(0, 1), text[:, 1:].flatten())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert loss.item() < _WITHOUT_CONTEXT / 2


def test_rejects_odd_head_dim() -> None:
    with pytest.raises(ValueError, match="embed_dim 30 is not a multiple of twice num_heads 2"):
        ByteModelConfig(num_layers=1, embed_dim=30, num_heads=2, mlp_dim=64)
