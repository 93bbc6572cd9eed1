"""Updates parameters: in one pass over memory where a kernel takes them, else by the rule.

What is to be updated is checked first, all of it, so that what is refused leaves nothing changed.
"""

from collections.abc import Sequence
from itertools import chain
from operator import itemgetter
from typing import Any, NamedTuple, TypeAlias

import numpy as np
import torch
from torch.utils.weak import WeakTensorKeyDictionary

from kernels.optimizer_step import contract
from kernels.optimizer_step import torch_op as fused
from optim.algorithm import Algorithm
from optim.torch.layout import Seen, in_own_memory, is_allocated
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


# An item as a plain tuple, which is made in a tenth of the time.
Row: TypeAlias = tuple[int, torch.Tensor, torch.Tensor, dict[str, torch.Tensor]]


class Held(NamedTuple):
    """What this rank holds of an item, checked.

    Attributes:
      place: of the item.
      param: the weights.
      grad: their gradient, of their shape.
      slots: in the order of the algorithm's.
    """

    place: int
    param: torch.Tensor
    grad: torch.Tensor
    slots: list[torch.Tensor]


class _Part(NamedTuple):
    """Items of one step: what kernels take, for each device, and the rest."""

    step: int
    batches: list[fused.Batch]
    rest: list[Held]


class Plan(NamedTuple):
    """An update of a group's parameters; nothing in it is refused any more."""

    algorithm: Algorithm
    counters: fused.Counters
    parts: list[_Part]

    def run(self) -> None:
        """Updates them in place; those of one step, mostly all, at once."""
        algorithm = self.algorithm
        self.counters.count_up()
        for step, batches, rest in self.parts:
            scalars = {k: float(v) for k, v in algorithm.scalars(np, step).items()}
            for item in rest:
                _follow_rule(algorithm, scalars, step, item)
            for batch in batches:
                names = contract.RULES[algorithm.name]
                batch.step(
                    algorithm.name,
                    step=step,
                    rate=algorithm.learning_rate,
                    weight_decay=algorithm.weight_decay,
                    decay_is_proximal=algorithm.decay_is_proximal,
                    hyperparameters=[getattr(algorithm, name) for name in names.hyperparameters],
                    scalars=[scalars[name] for name in names.scalars],
                )


class _Last(NamedTuple):
    """What is known of a group since its last step, whose parameters one batch took."""

    seen: Seen
    counters: fused.Counters
    batch: fused.Batch


class Updater:
    """Plans the updates of one optimizer.

    What a step found out about a group holds for the next one, mostly: to ask each tensor anew
    would take longer than to update a small one.
    """

    def __init__(self) -> None:
        self._last: dict[int, _Last] = {}
        # Of payloads, whose length does not tell it.
        self._shapes = WeakTensorKeyDictionary()

    def __reduce__(self) -> tuple[Any, ...]:
        """As a new one: addresses and weak references are of this process."""
        return Updater, ()

    def plan(self, number: int, algorithm: Algorithm, rows: Sequence[Row]) -> Plan:
        """Returns the update of a group's parameters, and changes nothing.

        Args:
          number: Of the group.
          algorithm: The group's.
          rows: Its parameters that have gradients.

        Raises:
          TypeError: As of `held`.
          ValueError: Likewise.
        """
        _, params, grads, states = zip(*rows, strict=True) if rows else [()] * 4
        kept = [*params, *_tensors_of(algorithm, states)]
        last = self._last.pop(number, None)
        if last is not None and last.seen.are(kept, grads):
            step, *others = {*last.counters.read()}
            if not others and last.batch.renew(grads):
                self._last[number] = last
                return Plan(algorithm, last.counters, [_Part(step + 1, [last.batch], [])])

        items = [*map(Item._make, rows)]
        of_rank = [self.held(algorithm, item) for item in items]
        counters = fused.Counters([item.state["step"] for item in items])
        by_step: dict[int, list[Held]] = {}
        for step, item in zip(counters.read(), of_rank, strict=True):
            by_step.setdefault(step + 1, []).append(item)
        parts = [_Part(step, *_sort(algorithm, together)) for step, together in by_step.items()]
        if _is_one_batch(parts) and all(
            own.param is item.param and own.grad is item.grad
            for own, item in zip(of_rank, items, strict=True)
        ):
            self._last[number] = _Last(Seen(kept, grads), counters, parts[0].batches[0])
        return Plan(algorithm, counters, parts)

    def held(self, algorithm: Algorithm, item: Item) -> Held:
        """Returns what this rank holds of an item.

        Raises:
          TypeError: The gradient is sparse, or not real and floating-point.
          ValueError: Gradient or state is not of its parameter, or one of them has no memory of
            its own.
        """
        param = local(item.param)
        name = f"parameter {item.place} of shape {tuple(item.param.shape)} on {param.device}"
        grad = _checked_grad(item, param, name)
        slots = []
        for slot in algorithm.slots:
            value = item.state.get(slot)
            if not isinstance(value, torch.Tensor):
                raise ValueError(f"{name} has no tensor {slot!r} in its state, but {value!r}")
            value = local_slot(value, param)
            check(value, param, name)
            slots.append(value)
        for x in (param, *slots):
            if not in_own_memory(x):
                raise ValueError(
                    f"{name}: it or its state, with strides {x.stride()}, is not in memory of its "
                    "own: elements share some, as after expand, or it was freed"
                )
        step = item.state.get("step")
        if not isinstance(step, torch.Tensor) or step.numel() != 1 or not is_allocated(step):
            raise ValueError(f"{name}: expected a tensor of one number as 'step', got {step!r}")
        self._check_shapes(algorithm, item, name)
        return Held(item.place, param, grad, slots)

    def _check_shapes(self, algorithm: Algorithm, item: Item, name: str) -> None:
        """Refuses a payload of other weights that would be as long."""
        for slot in map(item.state.__getitem__, algorithm.slots):
            if slot.dtype == torch.uint8:
                shape = self._shapes.setdefault(slot, item.param.shape)
                if shape != item.param.shape:
                    raise ValueError(f"{name} has state of shape {tuple(shape)}")


def _tensors_of(algorithm: Algorithm, states: Sequence[dict[str, Any]]) -> list[Any]:
    """Returns what is in states; nothing where some is missing, which `Updater.held` refuses."""
    try:
        if not algorithm.slots:  # of one key `itemgetter` would give no tuple
            return [state["step"] for state in states]
        return [*chain.from_iterable(map(itemgetter("step", *algorithm.slots), states))]
    except KeyError:
        return []


def _checked_grad(item: Item, param: torch.Tensor, name: str) -> torch.Tensor:
    """Returns what this rank holds of the gradient, as its memory has it: not a negative view."""
    if item.grad.layout != torch.strided:
        raise TypeError(
            f"expected dense gradients, got {item.grad.layout} for a {name}; "
            "use sparse=False in its embedding"
        )
    grad = local(item.grad)
    if not grad.is_floating_point():
        raise TypeError(f"expected real floating-point gradients, got {grad.dtype} for a {name}")
    if grad.shape != param.shape or grad.device != param.device:
        raise ValueError(
            f"{name} has a gradient of shape {tuple(grad.shape)} on {grad.device}; "
            "take gradients anew after parameters are changed"
        )
    if not is_allocated(grad):
        raise ValueError(f"{name} has a gradient whose memory was freed or cut short")
    return grad.resolve_neg()


def _sort(algorithm: Algorithm, items: Sequence[Held]) -> tuple[list[fused.Batch], list[Held]]:
    """Returns what kernels take, for each device, and the rest."""
    if algorithm.name not in contract.RULES:
        return [], [*items]
    batches: dict[torch.device, fused.Batch] = {}
    rest = []
    for item in items:
        device = item.param.device
        batch = batches.get(device)
        if batch is None:
            batch = batches[device] = fused.Batch(device)
        if not batch.take(item.param, item.grad, item.slots, item.place):
            rest.append(item)
    if any(batch.have_overlaps() for batch in batches.values()):
        return [], [*items]  # one after the other, as torch updates them
    return list(batches.values()), rest


def _is_one_batch(parts: Sequence[_Part]) -> bool:
    return len(parts) == 1 and len(parts[0].batches) == 1 and not parts[0].rest


def _follow_rule(algorithm: Algorithm, scalars: dict[str, float], step: int, item: Held) -> None:
    """Updates a parameter by the rule as it is written."""
    param = item.param
    are_squares = [slot in algorithm.squares for slot in algorithm.slots]
    old = [read(slot, param, is_square=s) for slot, s in zip(item.slots, are_squares, strict=True)]
    dtype = arithmetic_dtype(param)
    u, *new = algorithm.direction(torch, scalars, item.grad.to(dtype), *old)
    weights = param.to(dtype)
    rate: Any = algorithm.learning_rate
    if dtype == torch.float32:
        rate = np.float32(rate)  # as in kernels, so that what follows from it is rounded too
    change = algorithm.change(weights, u, rate, algorithm.weight_decay)
    # Slots first: what becomes one may be the gradient, and that the weights themselves.
    for i, (slot, before, value) in enumerate(zip(item.slots, old, new, strict=True)):
        if value is not before:
            seed = contract.seed(step, item.place, i)
            write(slot, value, is_square=are_squares[i], seed=seed)
    param.copy_(weights + change)
