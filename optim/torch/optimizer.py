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
from itertools import chain, count
from typing import Any

import torch
from torch import nn

from kernels.optimizer_step import contract
from optim.algorithm import Algorithm
from optim.sophia import Sophia
from optim.torch.slots import check, local, local_slot, new_slot, read, write
from optim.torch.update import Item, Updater

# What torch and its schedulers have in a group besides.
_NOT_HYPERPARAMETERS = frozenset({"name", "param_names", "initial_lr"})


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
        self._updater = Updater()
        super().__init__(params, _to_group(algorithm))

    @property
    def algorithm(self) -> Algorithm:
        """The rule, with the hyperparameters of groups that replace none."""
        return self._algorithm

    def __getstate__(self) -> dict[str, Any]:
        """As in torch, and with the rule, for `copy` and `pickle`."""
        own = {"_algorithm": self._algorithm, "_estimate": None, "_updater": Updater()}
        return {**super().__getstate__(), **own}

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        """As in torch, and checked."""
        own = {key: value for key, value in param_group.items() if key != "params"}
        unknown = own.keys() - self.defaults.keys() - _NOT_HYPERPARAMETERS
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
        for number, (algorithm, items) in enumerate(work):
            if self._estimate is None:
                self._updater.update(number, algorithm, items)
            else:
                for item in items:
                    self._update_curvature(algorithm, self._estimate, item)
        return loss

    @torch.no_grad()
    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """As in torch, which would make the state of the parameters' dtype: it keeps its own.

        The state is copied; later steps leave `state_dict` alone.

        Raises:
          ValueError: It is of another algorithm, or of other groups; nothing was changed.
        """
        self._check_algorithm(state_dict)
        super().load_state_dict(state_dict)
        self._updater = Updater()
        saved, own = (
            chain.from_iterable(group["params"] for group in groups)
            for groups in (state_dict["param_groups"], self.param_groups)
        )
        for number, param in zip(saved, own, strict=True):
            if number in state_dict["state"]:
                values = state_dict["state"][number]
                for slot in values.keys() & {*self._algorithm.slots}:
                    self.state[param][slot] = values[slot].to(param.device, copy=True)
                if "step" in values:
                    self.state[param]["step"] = values["step"].to("cpu", copy=True)

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
            if not state["step"]:  # has an estimate and nothing else
                continue
            own = local(param)
            slots = [
                read(local_slot(state[slot], own), own, is_square=False) for slot in algorithm.slots
            ]
            mask = algorithm.is_clipped(torch, *slots)
            clipped += int(mask.sum())
            weights += mask.numel()
        if not weights:
            raise ValueError("no step was made, so none was clipped")
        return clipped / weights

    def _check_algorithm(self, state_dict: dict[str, Any]) -> None:
        name = type(self._algorithm).__name__
        for group in state_dict["param_groups"]:
            saved = group.keys() - {"params", *_NOT_HYPERPARAMETERS}
            if saved != self.defaults.keys():
                raise ValueError(
                    f"expected state of {name}, whose hyperparameters are "
                    f"{', '.join(sorted(self.defaults))}; got {', '.join(sorted(saved))}"
                )
        expected = {"step", *self._algorithm.slots}
        for state in state_dict["state"].values():
            if state and state.keys() != expected:
                raise ValueError(
                    f"expected state of {name}, which is {', '.join(sorted(expected))}; "
                    f"got {', '.join(sorted(state))}"
                )

    def _require_sophia(self) -> None:
        if not isinstance(self._algorithm, Sophia):
            raise TypeError(f"{type(self._algorithm).__name__} has no curvature; Sophia does")

    def _of(self, group: dict[str, Any]) -> Algorithm:
        return self._algorithm.model_copy(update=_from_group(group))

    def _work(self) -> list[tuple[Algorithm, list[Item]]]:
        """Returns the parameters that have gradients, by groups."""
        numbers = count()
        work = []
        for group in self.param_groups:
            algorithm = self._of(group)
            items = [
                Item(place, param, param.grad, self._state(algorithm, param))
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

    def _update_curvature(
        self, algorithm: Algorithm, estimate: Callable[[torch.Tensor], torch.Tensor], item: Item
    ) -> None:
        assert isinstance(algorithm, Sophia)
        param = local(item.param)
        slot = local_slot(item.state["curvature"], param)
        check(slot, param)
        old = read(slot, param, is_square=False)
        new = algorithm.new_curvature(old, estimate(local(item.grad).to(old.dtype)))
        step, index = int(item.state["step"]), algorithm.slots.index("curvature")
        write(slot, new, is_square=False, seed=contract.seed(step, item.place, index))


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
    ignored = {"params", "lr", *_NOT_HYPERPARAMETERS}
    values = {key: value for key, value in group.items() if key not in ignored}
    return {"learning_rate": group["lr"], **values}
