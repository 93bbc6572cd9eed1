"""What is called 4 bits is 4 bits, on each rank and once more on the average."""

import torch
from torch.nn.parallel import DistributedDataParallel

from benchmarks.convergence.sides import FourBits, round_to_four_bits
from comm.testing import ranks

_BLOCK_SIZE = 256

# A few float32 roundings of values around one.
_TOLERANCE = 1e-6


def _inputs(rank: int) -> torch.Tensor:
    return torch.randn(8, 40, generator=torch.Generator().manual_seed(rank))


def test_each_block_has_fifteen_levels() -> None:
    x = torch.randn(3, 300, generator=torch.Generator().manual_seed(0))
    rounded = round_to_four_bits(x, _BLOCK_SIZE)
    assert rounded.shape == x.shape
    blocks = zip(x.flatten().split(_BLOCK_SIZE), rounded.flatten().split(_BLOCK_SIZE), strict=True)
    for block, found in blocks:
        step = block.abs().max() / 7
        assert len(found.unique()) <= 15
        assert (found - block).abs().max() <= step / 2 + _TOLERANCE
        torch.testing.assert_close(found / step, (found / step).round(), atol=1e-5, rtol=0)


def test_blocks_do_not_touch_each_other() -> None:
    x = torch.randn(2 * _BLOCK_SIZE)
    louder = torch.cat([x[:_BLOCK_SIZE], 100 * x[_BLOCK_SIZE:]])
    found = (round_to_four_bits(values, _BLOCK_SIZE)[:_BLOCK_SIZE] for values in (x, louder))
    assert torch.equal(*found)


def test_zeros_stay() -> None:
    assert torch.equal(round_to_four_bits(torch.zeros(10), _BLOCK_SIZE), torch.zeros(10))


def _gradients(rank: int, world_size: int, error_feedback: bool) -> list[torch.Tensor]:
    """Returns the weight's gradients of three equal steps, and the bias's of the last."""
    torch.manual_seed(0)
    model = DistributedDataParallel(torch.nn.Linear(40, 50))
    model.register_comm_hook(FourBits(_BLOCK_SIZE, error_feedback), FourBits.average)
    found = []
    for _ in range(3):
        model.zero_grad()
        (model(_inputs(rank)) ** 2).sum().backward()
        found.append(model.module.weight.grad.clone())
    return [*found, model.module.bias.grad]


def _exact() -> tuple[list[torch.Tensor], list[torch.Tensor]]:
    """Returns each rank's own gradients of weight and bias."""
    weights, biases = [], []
    for rank in range(2):
        torch.manual_seed(0)
        model = torch.nn.Linear(40, 50)
        (model(_inputs(rank)) ** 2).sum().backward()
        assert model.weight.grad is not None and model.bias.grad is not None
        weights.append(model.weight.grad)
        biases.append(model.bias.grad)
    return weights, biases


def test_hook_rounds_on_each_rank_and_the_average() -> None:
    weights, biases = _exact()
    sent = [round_to_four_bits(weight, _BLOCK_SIZE) for weight in weights]
    expected = round_to_four_bits((sent[0] + sent[1]) / 2, _BLOCK_SIZE)
    for *found, bias in ranks.run(_gradients, 2, False):
        for gradient in found:
            torch.testing.assert_close(gradient, expected)
        torch.testing.assert_close(bias, sum(biases) / 2)


def test_feedback_brings_what_was_lost_later() -> None:
    weights, _ = _exact()
    average = (weights[0] + weights[1]) / 2
    once = round_to_four_bits(average, _BLOCK_SIZE)
    for *found, _ in ranks.run(_gradients, 2, True):
        mean = sum(found) / len(found)
        assert (mean - average).norm() < 0.6 * (once - average).norm()
