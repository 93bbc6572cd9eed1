"""Updates parameters: in one pass over memory where a kernel takes them, else by the rule."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from torch.distributed.tensor import DTensor

from kernels.optimizer_step import contract
from kernels.optimizer_step import torch_op as fused
from optim.algorithm import Algorithm
from optim.torch.slots import arithmetic_dtype, check, local, local_slot, read, write


class Item(NamedTuple):
    """A parameter to update.

    Attributes:
      place: among all.
      param: itself.
      grad: its gradient.
      state: what the optimizer keeps for it.
    """

    place: int
    param: torch.Tensor
    grad: torch.Tensor
    state: dict[str, torch.Tensor]


class Updater:
    """Updates the parameters of one optimizer.

    What the last step found out about a group holds for the next one, mostly: to ask each tensor
    anew would take longer than to update a small one.
    """

    def __init__(self) -> None:
        self._batches: dict[int, fused.Batch] = {}

    def update(self, number: int, algorithm: Algorithm, items: Sequence[Item]) -> None:
        """Updates parameters in place; those of one step, mostly all, at once.

        Args:
          number: Of the group.
          algorithm: The group's.
          items: Its parameters that have gradients.

        Raises:
          ValueError: State is not of its parameter, which was not changed then.
        """
        steps = fused.count_up([item.state["step"] for item in items])
        by_step: dict[int, list[Item]] = {}
        for step, item in zip(steps, items, strict=True):
            by_step.setdefault(step, []).append(item)
        names = contract.RULES[algorithm.name]
        for step, together in by_step.items():
            scalars = {k: float(v) for k, v in algorithm.scalars(np, step).items()}
            batches, rest = self._split(number, algorithm, together)
            for item in rest:
                _follow_rule(algorithm, scalars, step, item)
            for batch in batches:
                batch.step(
                    algorithm.name,
                    step=step,
                    rate=algorithm.learning_rate,
                    weight_decay=algorithm.weight_decay,
                    decay_is_proximal=algorithm.decay_is_proximal,
                    hyperparameters=[getattr(algorithm, name) for name in names.hyperparameters],
                    scalars=[scalars[name] for name in names.scalars],
                )

    def _split(
        self, number: int, algorithm: Algorithm, items: Sequence[Item]
    ) -> tuple[list[fused.Batch], list[Item]]:
        """Returns what kernels take, for each device, and the rest."""
        kept = [x for i in items for x in (i.param, *[i.state[slot] for slot in algorithm.slots])]
        last = self._batches.pop(number, None)
        if last is None or not last.renew(kept, [item.grad for item in items]):
            batches, rest = _sort(algorithm, items)
            if len(batches) != 1 or rest:
                return batches, rest
            (last,) = batches
        self._batches[number] = last
        return [last], []


def _sort(algorithm: Algorithm, items: Sequence[Item]) -> tuple[list[fused.Batch], list[Item]]:
    batches: dict[torch.device, fused.Batch] = {}
    rest = []
    for item in items:
        param, slots = local(item.param), _slots(algorithm, item)
        batch = batches.get(param.device)
        if batch is None:
            batch = batches[param.device] = fused.Batch(param.device)
        if not batch.take(param, local(item.grad), slots, item.place):
            rest.append(item)
    return list(batches.values()), rest


def _slots(algorithm: Algorithm, item: Item) -> list[torch.Tensor]:
    """What this rank holds of them."""
    slots = [item.state[slot] for slot in algorithm.slots]
    if isinstance(item.param, DTensor):
        return [local_slot(slot, item.param.to_local()) for slot in slots]
    return slots


def _follow_rule(algorithm: Algorithm, scalars: dict[str, float], step: int, item: Item) -> None:
    """Updates a parameter by the rule as it is written."""
    param, slots = local(item.param), _slots(algorithm, item)
    for slot in slots:
        check(slot, param)
    are_squares = [slot in algorithm.squares for slot in algorithm.slots]
    old = [read(slot, param, is_square=s) for slot, s in zip(slots, are_squares, strict=True)]
    dtype = arithmetic_dtype(param)
    u, *new = algorithm.direction(torch, scalars, local(item.grad).to(dtype), *old)
    weights = param.to(dtype)
    rate: Any = algorithm.learning_rate
    if dtype == torch.float32:
        rate = np.float32(rate)  # as in kernels, so that what follows from it is rounded too
    param.copy_(weights + algorithm.change(weights, u, rate, algorithm.weight_decay))
    for i, (slot, before, value) in enumerate(zip(slots, old, new, strict=True)):
        if value is not before:
            seed = contract.seed(step, item.place, i)
            write(slot, value, is_square=are_squares[i], seed=seed)
