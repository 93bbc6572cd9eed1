"""Every algorithm of `optim` as a `torch.optim.Optimizer`.

On CPUs and GPUs all parameters of a group are updated in one fused pass over memory, by the kernels
of `kernels.optimizer_step`; what they don't take, by the rule as it is written.

    from optim.lion import Lion
    from optim.torch.optimizer import Optimizer, decay_groups
    optimizer = Optimizer(decay_groups(model), Lion(learning_rate=1e-4, weight_decay=1.0))

Parameter groups may replace any hyperparameter by its name, and the learning rate as `lr`, which is
where torch's schedulers look for it. DeepSpeed takes it as a client optimizer under every stage.
"""

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from functools import cache
from itertools import chain, count
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import nn
from torch.distributed.tensor import DTensor

from kernels.optimizer_step import contract
from kernels.optimizer_step import torch_op as fused
from optim.algorithm import Algorithm
from optim.sophia import Sophia
from optim.torch.slots import arithmetic_dtype, local, new_slot, read, write


class Optimizer(torch.optim.Optimizer):
    """Drives an algorithm.

    Args:
      params: Tensors, or groups of them.
      algorithm: The rule and its hyperparameters.

    State of each parameter: `step`, float32 [], on the CPU; and a tensor of the parameter's shape
    for each of `algorithm.slots`, float32, or float64 for parameters of float64; or with
    `state_bits=8`, for parameters that are not small, its bytes; see `optim.torch.slots`.

    Raises:
      TypeError: A parameter is complex or no floating-point tensor.
      ValueError: A group has a hyperparameter that is unknown or out of range.
    """

    def __init__(self, params: Iterable[Any], algorithm: Algorithm):
        self._algorithm = algorithm
        self._estimate: Callable[[torch.Tensor], torch.Tensor] | None = None
        super().__init__(params, _to_group(algorithm))

    @property
    def algorithm(self) -> Algorithm:
        """The rule, with the hyperparameters of groups that replace none."""
        return self._algorithm

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
        work = self._work()
        for algorithm, items in work:
            if self._estimate is None:
                self._update(algorithm, items)
            else:
                for item in items:
                    self._update_curvature(algorithm, self._estimate, item)
        return loss

    @torch.no_grad()
    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """As in torch, which would make the state of the parameters' dtype: it keeps its own."""
        super().load_state_dict(state_dict)
        saved, own = (
            chain.from_iterable(group["params"] for group in groups)
            for groups in (state_dict["param_groups"], self.param_groups)
        )
        for number, param in zip(saved, own, strict=True):
            if number in state_dict["state"]:
                for slot in self._algorithm.slots:
                    value = state_dict["state"][number][slot]
                    self.state[param][slot] = value.to(param.device, copy=True)

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
        # Parameters that are in no group, as ZeRO's third stage has them between steps, are not
        # known to have hyperparameters of their own.
        of_param = {p: self._of(group) for group in self.param_groups for p in group["params"]}
        clipped = weights = 0
        for param, state in self.state.items():
            algorithm = of_param.get(param, self._algorithm)
            assert isinstance(algorithm, Sophia)
            slots = [
                read(local(state[slot]), local(param), is_square=False) for slot in algorithm.slots
            ]
            mask = algorithm.is_clipped(torch, *slots)
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

    def _work(self) -> list[tuple[Algorithm, "list[_Item]"]]:
        """Returns the parameters that have gradients, by groups."""
        numbers = count()
        work = []
        for group in self.param_groups:
            algorithm = self._of(group)
            items = [
                _Item(place, param, param.grad, self._state(algorithm, param))
                for param, place in zip(group["params"], numbers, strict=False)
                if param.grad is not None
            ]
            work.append((algorithm, items))
        return work

    def _state(self, algorithm: Algorithm, param: torch.Tensor) -> dict[str, torch.Tensor]:
        assert param.grad is not None
        if param.grad.layout != torch.strided:
            raise TypeError(
                f"expected dense gradients, got {param.grad.layout} for a parameter of shape "
                f"{tuple(param.shape)}; use sparse=False in its embedding"
            )
        state = self.state[param]
        if not state:
            state["step"] = torch.zeros((), dtype=torch.float32)
            for slot in algorithm.slots:
                state[slot] = new_slot(param, algorithm.state_bits)
        return state

    def _update(self, algorithm: Algorithm, items: "list[_Item]") -> None:
        """Updates the parameters of a group; those of one step, mostly all, at once."""
        serves = cache(fused.serves)  # asks the environment
        if items:
            torch._foreach_add_([item.state["step"] for item in items], 1)
        by_step: dict[int, list[_Item]] = {}
        for item in items:
            by_step.setdefault(int(item.state["step"].item()), []).append(item)
        for step, together in by_step.items():
            scalars = {k: float(v) for k, v in algorithm.scalars(np, step).items()}
            fusible: dict[torch.device, list[fused.Item]] = {}
            for place, param, grad, state in together:
                slots = [state[slot] for slot in algorithm.slots]
                weights = param
                if isinstance(param, DTensor):
                    weights, grad, *slots = map(local, (param, grad, *slots))
                served = algorithm.name in contract.RULES and serves(param.device, param.dtype)
                if served and fused.fits(weights, grad, slots):
                    on_device = fusible.setdefault(weights.device, [])
                    on_device.append(fused.Item(weights, grad, slots, place))
                else:
                    _follow_rule(algorithm, scalars, weights, grad, slots, step, place)
            for on_device in fusible.values():
                names = contract.RULES[algorithm.name]
                fused.step(
                    algorithm.name,
                    on_device,
                    step=step,
                    rate=algorithm.learning_rate,
                    weight_decay=algorithm.weight_decay,
                    decay_is_proximal=algorithm.decay_is_proximal,
                    hyperparameters=[getattr(algorithm, name) for name in names.hyperparameters],
                    scalars=[scalars[name] for name in names.scalars],
                )

    def _update_curvature(
        self,
        algorithm: Algorithm,
        estimate: Callable[[torch.Tensor], torch.Tensor],
        item: "_Item",
    ) -> None:
        assert isinstance(algorithm, Sophia)
        slot = local(item.state["curvature"])
        old = read(slot, local(item.param), is_square=False)
        new = algorithm.new_curvature(old, estimate(local(item.grad).to(old.dtype)))
        step, index = int(item.state["step"]), algorithm.slots.index("curvature")
        write(slot, new, is_square=False, seed=contract.seed(step, item.place, index))


class _Item(NamedTuple):
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


def _follow_rule(
    algorithm: Algorithm,
    scalars: dict[str, float],
    param: torch.Tensor,
    grad: torch.Tensor,
    slots: list[torch.Tensor],
    step: int,
    index: int,
) -> None:
    """Updates one parameter by the rule as it is written."""
    are_squares = [slot in algorithm.squares for slot in algorithm.slots]
    old = [read(slot, param, is_square=s) for slot, s in zip(slots, are_squares, strict=True)]
    dtype = arithmetic_dtype(param)
    u, *new = algorithm.direction(torch, scalars, grad.to(dtype), *old)
    weights = param.to(dtype)
    change = algorithm.change(weights, u, algorithm.learning_rate, algorithm.weight_decay)
    param.copy_(weights + change)
    for i, (slot, before, value) in enumerate(zip(slots, old, new, strict=True)):
        if value is not before:
            seed = contract.seed(step, index, i)
            write(slot, value, is_square=are_squares[i], seed=seed)


def decay_groups(model: nn.Module) -> list[dict[str, Any]]:
    """Returns a model's parameters as two groups: matrices, and what does not decay.

    Vectors and single numbers, such as biases and the weights of norms, do not.
    """
    params = [param for param in model.parameters() if param.requires_grad]
    return [
        {"params": [param for param in params if param.ndim > 1]},
        {"params": [param for param in params if param.ndim <= 1], "weight_decay": 0.0},
    ]


def _to_group(algorithm: Algorithm) -> dict[str, Any]:
    """Hyperparameters as torch has them in a group."""
    values = algorithm.model_dump()
    return {"lr": values.pop("learning_rate"), **values}


def _from_group(group: dict[str, Any]) -> dict[str, Any]:
    ignored = ("params", "param_names", "name", "initial_lr", "lr")
    values = {key: value for key, value in group.items() if key not in ignored}
    return {"learning_rate": group["lr"], **values}
