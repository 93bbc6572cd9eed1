"""Every algorithm of `optim` as a `torch.optim.Optimizer`.

    from optim.lion import Lion
    from optim.torch.optimizer import Optimizer, decay_groups
    optimizer = Optimizer(decay_groups(model), Lion(learning_rate=1e-4, weight_decay=1.0))

Parameter groups may replace any hyperparameter by its name, and the learning rate as `lr`, which is
where torch's schedulers look for it. DeepSpeed takes it as a client optimizer under every stage.
"""

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from functools import cache, partial
from itertools import chain
from typing import Any

import numpy as np
import torch
from torch import nn

from optim.algorithm import Algorithm
from optim.sophia import Sophia

# State and arithmetic of parameters of any other dtype are float32.
_WIDE = (torch.float32, torch.float64)


class Optimizer(torch.optim.Optimizer):
    """Drives an algorithm.

    Args:
      params: Tensors, or groups of them.
      algorithm: The rule and its hyperparameters.

    State of each parameter: `step`, float32 [], on the CPU; and a tensor of the parameter's shape
    for each of `algorithm.slots`, float32, or float64 for parameters of float64.

    Raises:
      TypeError: A parameter is complex or no floating-point tensor.
      ValueError: A group has a hyperparameter that is unknown or out of range.
    """

    def __init__(self, params: Iterable[Any], algorithm: Algorithm):
        self._algorithm = algorithm
        self._estimate: Callable[[torch.Tensor], torch.Tensor] | None = None
        super().__init__(params, _to_group(algorithm))

    def __getstate__(self) -> dict[str, Any]:
        """As in torch, and with the rule, for `copy` and `pickle`."""
        own = {"_algorithm": self._algorithm, "_estimate": None}
        return {**super().__getstate__(), **own}

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        """As in torch, and checked."""
        own = {key: value for key, value in param_group.items() if key != "params"}
        unknown = own.keys() - self.defaults.keys() - {"name", "param_names"}
        if unknown:
            raise ValueError(
                f"a parameter group has the unknown keys {sorted(unknown)}; "
                f"accepted: {', '.join(sorted(self.defaults))}"
            )
        type(self._algorithm)(**_from_group({**self.defaults, **own}))
        super().add_param_group(param_group)
        for param in self.param_groups[-1]["params"]:
            if not param.is_floating_point():
                raise TypeError(f"expected real floating-point parameters, got {param.dtype}")

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """Updates every parameter that has a gradient.

        Raises:
          TypeError: A gradient is sparse; no parameter was changed.
        """
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        work = [
            (self._of(group), [param for param in group["params"] if param.grad is not None])
            for group in self.param_groups
        ]
        for param in chain.from_iterable(params for _, params in work):
            if param.grad.layout != torch.strided:
                raise TypeError(
                    f"expected dense gradients, got {param.grad.layout} for a parameter of shape "
                    f"{tuple(param.shape)}; use sparse=False in its embedding"
                )
        for algorithm, params in work:
            scalars_of = cache(partial(_scalars, algorithm))  # parameters mostly share their step
            for param in params:
                if self._estimate is None:
                    self._update(algorithm, scalars_of, param)
                else:
                    self._update_curvature(algorithm, self._estimate, param)
        return loss

    @contextmanager
    def estimating_curvature(
        self, estimate: Callable[[torch.Tensor], torch.Tensor]
    ) -> Iterator[None]:
        """Makes `step` take gradients for Sophia's curvature, and leave the parameters as they are.

        So an estimate goes through whatever stands between the backward pass and the optimizer,
        such as ZeRO; see `optim.torch.curvature` for the estimates.

        Args:
          estimate: Gives the estimate of the Hessian's diagonal from the gradient.

        Raises:
          TypeError: The algorithm has no curvature.
        """
        self._require_sophia()
        self._estimate = estimate
        try:
            yield
        finally:
            self._estimate = None

    @torch.no_grad()
    def clipped_fraction(self) -> float:
        """Returns the fraction of weights, of those held here, that Sophia's last step clipped.

        Raises:
          TypeError: The algorithm does not clip.
          ValueError: No step was made.
        """
        self._require_sophia()
        clipped = weights = 0
        for group in self.param_groups:
            algorithm = self._of(group)
            assert isinstance(algorithm, Sophia)
            for param in group["params"]:
                if param in self.state:
                    state = self.state[param]
                    mask = algorithm.is_clipped(torch, state["momentum"], state["curvature"])
                    clipped += int(mask.sum())
                    weights += mask.numel()
        if not weights:
            raise ValueError("no step was made, so none was clipped")
        return clipped / weights

    def _require_sophia(self) -> None:
        if not isinstance(self._algorithm, Sophia):
            raise TypeError(f"{type(self._algorithm).__name__} has no curvature; Sophia does")

    def _of(self, group: dict[str, Any]) -> Algorithm:
        return self._algorithm.model_copy(update=_from_group(group))

    def _state(self, param: torch.Tensor) -> dict[str, torch.Tensor]:
        state = self.state[param]
        if not state:
            dtype = param.dtype if param.dtype in _WIDE else torch.float32
            state["step"] = torch.zeros((), dtype=torch.float32)
            for slot in self._algorithm.slots:
                state[slot] = torch.zeros_like(param, dtype=dtype)
        return state

    def _update(
        self,
        algorithm: Algorithm,
        scalars_of: Callable[[int], dict[str, float]],
        param: torch.Tensor,
    ) -> None:
        state = self._state(param)
        state["step"] += 1
        scalars = scalars_of(int(state["step"]))
        slots = [state[slot] for slot in algorithm.slots]
        assert param.grad is not None
        grad = param.grad.to(slots[0].dtype)
        u, *new = algorithm.direction(torch, scalars, grad, *slots)
        weights = param.to(grad.dtype)
        change = algorithm.change(weights, u, algorithm.learning_rate, algorithm.weight_decay)
        param.copy_(weights + change)
        for slot, value in zip(slots, new, strict=True):
            slot.copy_(value)

    def _update_curvature(
        self,
        algorithm: Algorithm,
        estimate: Callable[[torch.Tensor], torch.Tensor],
        param: torch.Tensor,
    ) -> None:
        assert isinstance(algorithm, Sophia)
        assert param.grad is not None
        curvature = self._state(param)["curvature"]
        curvature.copy_(
            algorithm.new_curvature(curvature, estimate(param.grad.to(curvature.dtype)))
        )


def decay_groups(model: nn.Module) -> list[dict[str, Any]]:
    """Returns a model's parameters as two groups: matrices, and what does not decay.

    Vectors and single numbers, such as biases and the weights of norms, do not.
    """
    params = [param for param in model.parameters() if param.requires_grad]
    return [
        {"params": [param for param in params if param.ndim > 1]},
        {"params": [param for param in params if param.ndim <= 1], "weight_decay": 0.0},
    ]


def _scalars(algorithm: Algorithm, step: int) -> dict[str, float]:
    return {name: float(value) for name, value in algorithm.scalars(np, step).items()}


def _to_group(algorithm: Algorithm) -> dict[str, Any]:
    """Hyperparameters as torch has them in a group."""
    values = algorithm.model_dump()
    return {"lr": values.pop("learning_rate"), **values}


def _from_group(group: dict[str, Any]) -> dict[str, Any]:
    ignored = ("params", "param_names", "name", "initial_lr", "lr")
    values = {key: value for key, value in group.items() if key not in ignored}
    return {"learning_rate": group["lr"], **values}
