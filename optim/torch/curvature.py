"""Estimates of the Hessian's diagonal, for Sophia in PyTorch.

with optimizer.estimating_curvature(gauss_newton_bartlett(batch_size)):
    F.cross_entropy(logits, sample_labels(logits)).backward()
    optimizer.step()

with optimizer.estimating_curvature(as_it_is):
    hutchinson(loss, params)
    optimizer.step()
"""

from collections.abc import Callable, Sequence

import torch
from torch import distributed
from torch.distributed import ProcessGroup
from torch.distributed.tensor import DTensor
from torch.distributions import Gumbel


def sample_labels(logits: torch.Tensor, gumbel: torch.Tensor | None = None) -> torch.Tensor:
    """Draws a label for each example from the model's own distribution.

    Args:
      logits: `[..., classes]`.
      gumbel: Noise of the standard Gumbel distribution in the shape of `logits`; drawn unless
        given.

    Returns:
      int64 `[...]`.
    """
    if gumbel is None:
        zero = torch.zeros((), device=logits.device)
        gumbel = Gumbel(zero, zero + 1).sample(logits.shape)
    return (logits.detach() + gumbel).argmax(dim=-1)


def gauss_newton_bartlett(batch_size: float) -> Callable[[torch.Tensor], torch.Tensor]:
    """Returns the estimate of the Gauss-Newton matrix's diagonal.

    Of the gradient of the mean cross-entropy to sampled labels, over `batch_size` of them, those of
    all ranks. Reference: Liu et al., "Sophia", Algorithm 2, https://arxiv.org/abs/2305.14342.
    """
    return lambda grad: batch_size * grad * grad


def as_it_is(grad: torch.Tensor) -> torch.Tensor:
    """Returns what is an estimate already, such as that of `hutchinson`."""
    return grad


def hutchinson(
    loss: torch.Tensor,
    params: Sequence[torch.Tensor],
    generator: torch.Generator | None = None,
    *,
    group: ProcessGroup | None = None,
) -> None:
    """Replaces each gradient by `x * (H @ x)`, whose mean is the diagonal of the Hessian `H`.

    It differentiates twice, past the hooks by which DDP, FSDP and DeepSpeed exchange gradients.
    With `group` it averages the estimates itself, which is what DDP needs; DeepSpeed, and
    parameters of which a rank holds but a part, want `gauss_newton_bartlett`.

    Args:
      loss: A scalar whose graph can be differentiated twice; it is freed.
      params: Of which `H` is the Hessian; they require gradients.
      generator: Of the standard normal `x`.
      group: The ranks over whose losses' mean to estimate; this one's loss alone unless given.

    Raises:
      TypeError: A rank holds but a part of a parameter.

    Reference: Liu et al., "Sophia", Algorithm 1, https://arxiv.org/abs/2305.14342.
    """
    for param in params:
        if isinstance(param, DTensor) or hasattr(param, "ds_id"):  # FSDP; ZeRO's third stage
            raise TypeError(
                "hutchinson takes whole parameters, and a rank holds a part of one of shape "
                f"{tuple(param.shape)}; use gauss_newton_bartlett"
            )
    grads = torch.autograd.grad(loss, params, create_graph=True, materialize_grads=True)
    directions = [
        torch.randn(p.shape, dtype=p.dtype, device=p.device, generator=generator) for p in params
    ]
    curved = [(grad * x).sum() for grad, x in zip(grads, directions, strict=True) if grad.grad_fn]
    if curved:
        products = torch.autograd.grad(sum(curved), params, materialize_grads=True)
    else:  # of a linear function
        products = tuple(map(torch.zeros_like, params))
    for param, x, product in zip(params, directions, products, strict=True):
        param.grad = x * product
        if group is not None:
            distributed.all_reduce(param.grad, group=group)
            param.grad /= group.size()
