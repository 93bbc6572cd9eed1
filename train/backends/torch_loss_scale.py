"""Loss scaling in PyTorch, and steps that are skipped, whatever is behind it.

A gradient is divided by the factor as soon as it is known, before it is accumulated: ZeRO's
reductions, compression, clipping and the optimizer see gradients that were never scaled.
"""

import numpy as np
import torch
from torch import distributed, nn

from train.config.precision import LossScalingConfig
from train.loss_scale import LossScale


class LossScaler:
    """Scales losses of one module, and finds out whether all ranks' gradients are finite.

    Attributes:
        state: Of the factor; None: losses are not scaled.

    Args:
        module: Whose parameters' gradients are looked at; ZeRO may have partitioned them.
        config: How the factor moves; None: losses are not scaled.
        micro_batches: By whose number DeepSpeed divides losses. That is done to gradients instead,
            so that float16 holds what it would hold of each micro-batch alone.
    """

    def __init__(self, module: nn.Module, config: LossScalingConfig | None, micro_batches: int):
        self._config = config
        self._micro_batches = micro_batches
        self.state = None if config is None else LossScale.initial(config)
        self._are_finite: list[torch.Tensor] = []
        for param in module.parameters():
            if param.requires_grad:
                param.register_hook(self._unscale)

    def scaled(self, loss: torch.Tensor) -> torch.Tensor:
        """Returns what to differentiate."""
        factor = self._factor
        return loss if factor is None else loss * factor

    def all_finite(self, device: torch.device) -> bool:
        """Whether all gradients since the last call were finite, on all ranks; collective."""
        own = torch.stack(self._are_finite).all().to(device, torch.int32)
        self._are_finite.clear()
        distributed.all_reduce(own, op=distributed.ReduceOp.MIN)
        return bool(own)

    def move(self, is_finite: bool) -> dict[str, torch.Tensor]:
        """Moves the factor after a step; returns what is worth reporting of it."""
        if self.state is None or self._config is None:
            return {}
        report = {"loss_scale": torch.tensor(float(self.state.factor))}
        self.state = self.state.after(np, self._config, np.bool_(is_finite))
        return report

    @property
    def _factor(self) -> float | None:
        """Of losses, and with it the division of DeepSpeed's that gradients get instead."""
        return None if self.state is None else float(self.state.factor) * self._micro_batches

    def _unscale(self, grad: torch.Tensor) -> torch.Tensor:
        if (factor := self._factor) is not None:
            grad = grad / factor
        self._are_finite.append(torch.isfinite(grad).all())
        # The step is skipped anyway; ZeRO would warn of what is not finite, and find it again.
        return grad.nan_to_num(0.0, 0.0, 0.0)
