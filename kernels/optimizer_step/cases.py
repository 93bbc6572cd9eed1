"""Steps to compare backends by: every rule, on tensors around a block and a tile."""

from typing import Any, NamedTuple

import torch
from numpy.typing import NDArray

from kernels.optimizer_step import contract, torch_op
from kernels.quantize import torch_op as quantize
from kernels.testing.arrays import to_numpy

# None, less than a block, a block and a part, and a tile and a part.
_SIZES = (0, 1, 300, 4099)

# The second starts from what the first one left.
_NUM_STEPS = 2

# The tensor whose last block gets gradients that are no numbers, in the first step.
_SPOILED = _SIZES.index(300)
_NO_NUMBERS = (torch.nan, torch.inf, -torch.inf)


class Numbers(NamedTuple):
    """What a rule takes, as after a few steps.

    Attributes:
      hyperparameters: as `contract.RULES` names them.
      scalars: likewise.
      num_slots: of each tensor.
    """

    hyperparameters: tuple[float, ...]
    scalars: tuple[float, ...]
    num_slots: int


NUMBERS = {
    "adabelief": Numbers((0.9, 0.999, 1e-8), (3.7, 334.0, 0.97, 0.01), 2),
    "adamw": Numbers((0.9, 0.999, 1e-8), (3.7, 334.0), 2),
    "adan": Numbers((0.98, 0.92, 0.99, 1e-8), (17.0, 4.5, 33.7, 1.0), 4),
    "lion": Numbers((0.9, 0.99), (), 1),
    "sophia": Numbers((0.965, 0.05, 1e-12), (), 2),
}


def run(
    rule: str, dtype: str, *, in_bytes: bool, proximal: bool, device: str
) -> dict[str, NDArray[Any]]:
    """Returns the weights and all slots after a few steps, by name."""
    generator = torch.Generator().manual_seed(7)
    numbers = NUMBERS[rule]

    def draw(size: int) -> torch.Tensor:
        return torch.randn(size, generator=generator)

    def cast(x: torch.Tensor) -> torch.Tensor:
        return x.to(device, getattr(torch, dtype))

    def slot(size: int) -> torch.Tensor:
        # No slot holds numbers that would not do: squares and curvature are not negative.
        values = draw(size).abs().to(device)
        if not in_bytes:
            if size == _SIZES[_SPOILED]:
                values[0] = torch.inf
            return values
        return quantize.quantize(values, contract.CODEC, seed=0).view(-1)

    params = [cast(draw(size)) for size in _SIZES]
    slots = [[slot(size) for _ in range(numbers.num_slots)] for size in _SIZES]
    for number in range(1, _NUM_STEPS + 1):
        # Of magnitudes as far apart as those of layers.
        grads = [cast(draw(size) * 10.0 ** -(size % 5)) for size in _SIZES]
        if number == 1:
            grads[_SPOILED][-len(_NO_NUMBERS) :] = torch.tensor(_NO_NUMBERS)
        batch = torch_op.Batch(params[0].device)
        for index, (param, grad, kept) in enumerate(zip(params, grads, slots, strict=True)):
            assert batch.take(param, grad, kept, index)
        batch.step(
            rule,
            step=number,
            rate=0.02 * 0.77**number,
            weight_decay=0.13,
            decay_is_proximal=proximal,
            hyperparameters=numbers.hyperparameters,
            scalars=numbers.scalars,
        )
    results = {f"weights of {size}": x for size, x in zip(_SIZES, params, strict=True)}
    for size, kept in zip(_SIZES, slots, strict=True):
        results |= {f"slot {place} of {size}": x for place, x in enumerate(kept)}
    return {name: to_numpy(x) for name, x in results.items()}
