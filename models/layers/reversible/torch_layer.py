"""Reversible stages in PyTorch; `flax_layer.py` is its twin, and says what they are."""

import dataclasses
from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import nn

from models.context import Context, Sown


def reversible(branches: Sequence[nn.Module], x: torch.Tensor, context: Context) -> torch.Tensor:
    """Runs branches in turn over the halves of the channels of `x [batch, ..., channels]`.

    The halves are float32 or more, whatever the dtype that branches compute in, since they are
    found again by subtraction. What branches sow counts once; of it losses have gradients. Within
    a branch nothing is checkpointed.

    Args:
        branches: Modules of a tensor and a context, `[batch, ..., channels / 2]` to the same. The
            first adds to the first half what it makes of the second.
        x: Of an even number of channels.
        context: Of the pass.
    """
    wide = x.to(torch.promote_types(x.dtype, torch.float32))
    if torch.is_grad_enabled() and not wide.requires_grad:
        # A function whose inputs have no gradients is not asked for those of the branches' weights.
        wide = wide.detach().requires_grad_()
    first, second = wide.chunk(2, dim=-1)
    run = _Branches(branches, dataclasses.replace(context, checkpointing="none"), x.dtype)
    first, second, *losses = _Coupled.apply(run, first, second)
    run.sow(context, iter(losses))
    return torch.cat([first, second], dim=-1).to(x.dtype)


class _Branches:
    """The branches of one pass, and what they sowed on the way there."""

    def __init__(self, branches: Sequence[nn.Module], context: Context, dtype: torch.dtype):
        self._branches, self._context, self._dtype = branches, context, dtype
        self.sown: list[Sown] = []

    def __len__(self) -> int:
        return len(self._branches)

    def __call__(self, index: int, half: torch.Tensor) -> tuple[torch.Tensor, Sown]:
        """Returns what a branch adds to the other half, and what it sows."""
        context = dataclasses.replace(self._context, sown=Sown.nothing())
        added = self._branches[index](half.to(self._dtype), context).to(half.dtype)
        return added, context.sown

    def sow(self, context: Context, losses: Iterator[torch.Tensor]) -> None:
        """Sows what the branches sowed, its losses replaced, in order, by those with gradients."""
        for sown in self.sown:
            told = {name: [next(losses) for _ in found] for name, found in sown.losses.items()}
            context.sown.add(sown._replace(losses=told))


class _Coupled(torch.autograd.Function):
    """Halves to halves, followed by the losses of all branches."""

    @staticmethod
    def forward(
        ctx: Any, run: _Branches, first: torch.Tensor, second: torch.Tensor
    ) -> tuple[torch.Tensor, ...]:
        halves = [first, second]
        for index in range(len(run)):
            to, of = index % 2, 1 - index % 2
            added, sown = run(index, halves[of])
            halves[to] = halves[to] + added
            run.sown.append(sown)
        ctx.run = run
        ctx.save_for_backward(*halves)
        return *halves, *(loss for sown in run.sown for loss in _losses(sown))

    @staticmethod
    def backward(ctx: Any, *grads: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        """Accumulates the gradients of weights as each branch is run again.

        They are not returned, as those of arguments would be, since DeepSpeed may have given the
        weights' memory back by then: only while a branch runs they are whole.
        """
        if not torch.autograd._is_checkpoint_valid():
            raise RuntimeError(
                "a reversible stage gives gradients to backward(), not to torch.autograd.grad()"
            )
        halves, of_halves, of_losses = list(ctx.saved_tensors), list(grads[:2]), list(grads[2:])
        for index in reversed(range(len(ctx.run))):
            to, of = index % 2, 1 - index % 2
            half = halves[of].detach().requires_grad_()
            with torch.enable_grad():
                added, sown = ctx.run(index, half)
            losses = _losses(sown)
            of_these = [of_losses.pop() for _ in losses][::-1]
            torch.autograd.backward([added, *losses], [of_halves[to], *of_these])
            assert half.grad is not None
            halves[to] = halves[to] - added.detach()
            of_halves[of] = of_halves[of] + half.grad
        return None, *of_halves


def _losses(sown: Sown) -> list[torch.Tensor]:
    return [loss for found in sown.losses.values() for loss in found]
