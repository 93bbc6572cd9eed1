"""Every algorithm of `optim` as a `torch.optim.Optimizer`.

On CPUs and GPUs all parameters of a group are updated in one fused pass over memory, by the kernels
of `kernels.optimizer_step`; what they don't take, by the rule as it is written.

    from optim.lion import Lion
    from optim.torch.optimizer import Optimizer, decay_groups
    optimizer = Optimizer(decay_groups(model), Lion(learning_rate=1e-4, weight_decay=1.0))

Parameter groups may replace any hyperparameter by its name, and the learning rate as `lr`, which is
where torch's schedulers look for it; a tensor of one number will do, as it does in torch. They may
have other keys besides. DeepSpeed takes it as a client optimizer under every stage.
"""

from collections.abc import Callable, Container, Iterable, Iterator
from contextlib import contextmanager
from itertools import chain, count
from typing import Any, TypeAlias

import torch
from torch import nn

from kernels.optimizer_step import contract
from optim.algorithm import Algorithm, require_algorithm
from optim.torch.groups import (
    check_new_keys,
    foreign_hyperparameters,
    to_algorithm,
    to_group,
)
from optim.torch.slots import local, local_slot, new_slot, read, write
from optim.torch.update import Held, Item, Row, Updater

# Of a parameter.
_State: TypeAlias = dict[str, torch.Tensor]


class Optimizer(torch.optim.Optimizer):
    """Drives an algorithm.

    Args:
      params: Tensors, or groups of them.
      algorithm: The rule and its hyperparameters.

    State of each parameter: `step`, float32 [], on the CPU; and a tensor of the parameter's shape
    for each of `algorithm.slots`, float32, or float64 for parameters of float64; or with
    `state_bits=8`, for parameters that are not small, its bytes; see `optim.torch.slots`.

    Raises:
      TypeError: A parameter is complex or no floating-point tensor, or `algorithm` is none.
      ValueError: A group has a hyperparameter that is unknown or out of range.
    """

    def __init__(self, params: Iterable[Any], algorithm: Algorithm):
        require_algorithm(algorithm)
        self._algorithm = algorithm
        self._estimate: Callable[[torch.Tensor], torch.Tensor] | None = None
        self._is_paused = False
        self._updater = Updater()
        super().__init__(params, to_group(algorithm))

    @property
    def algorithm(self) -> Algorithm:
        """The rule, with the hyperparameters of groups that replace none."""
        return self._algorithm

    def __getstate__(self) -> dict[str, Any]:
        """As in torch, and with the rule, for `copy` and `pickle`."""
        own = {
            "_algorithm": self._algorithm,
            "_estimate": None,
            "_is_paused": False,
            "_updater": Updater(),
        }
        return {**super().__getstate__(), **own}

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        """As in torch, and checked.

        Raises:
          TypeError: A parameter is complex or no floating-point tensor.
          ValueError: A hyperparameter is out of range, or a key is nearly one.
        """
        kind, number = type(self._algorithm), len(self.param_groups)
        check_new_keys(kind, param_group)
        to_algorithm(kind, {**self.defaults, **param_group}, number)
        super().add_param_group(param_group)
        for param in self.param_groups[-1]["params"]:
            if not param.is_floating_point():
                self.param_groups.pop()
                raise TypeError(f"expected real floating-point parameters, got {param.dtype}")

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """Updates every parameter that has a gradient.

        Raises:
          TypeError: A gradient is sparse, or not real and floating-point; nothing was changed.
          ValueError: A hyperparameter in a group is out of range, or a gradient or state is not of
            its parameter; nothing was changed.
        """
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        if self._is_paused:
            return loss
        work, new = self._work()
        if self._estimate is None:
            plans = [
                self._updater.plan(number, algorithm, rows)
                for number, (algorithm, rows) in enumerate(work)
            ]
            self.state.update(new)
            for plan in plans:
                plan.run()
        else:
            held = [
                (algorithm, item, self._updater.held(algorithm, item))
                for algorithm, rows in work
                for item in map(Item._make, rows)
            ]
            self.state.update(new)
            for algorithm, item, own in held:
                self._update_curvature(algorithm, self._estimate, item, own)
        return loss

    @torch.no_grad()
    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """As in torch, which would make the state of the parameters' dtype: it keeps its own.

        The state is copied; later steps leave `state_dict` alone.

        Raises:
          ValueError: It is of another algorithm, of other groups, or has a hyperparameter out of
            range; nothing was changed.
        """
        # Last before torch loads what the hooks made of it, and first after.
        given: list[dict[str, Any]] = []

        def check(_: torch.optim.Optimizer, final: dict[str, Any]) -> None:
            self._check_algorithm(final)
            given.append(final)

        def restore(_: torch.optim.Optimizer) -> None:
            self._restore_state(given.pop())

        with (
            self.register_load_state_dict_pre_hook(check),
            self.register_load_state_dict_post_hook(restore, prepend=True),
        ):
            super().load_state_dict(state_dict)

    def _restore_state(self, state_dict: dict[str, Any]) -> None:
        """Sets the state anew, in the dtypes in which it was saved."""
        self._updater = Updater()
        saved, own = (
            chain.from_iterable(group["params"] for group in groups)
            for groups in (state_dict["param_groups"], self.param_groups)
        )
        for number, param in zip(saved, own, strict=True):
            for key, value in state_dict["state"].get(number, {}).items():
                if isinstance(value, torch.Tensor):
                    device = "cpu" if key == "step" else param.device
                    self.state[param][key] = value.to(device, copy=True)

    @contextmanager
    def estimating_curvature(
        self, estimate: Callable[[torch.Tensor], torch.Tensor]
    ) -> Iterator[None]:
        """Makes `step` take gradients for the curvature, and leave the parameters as they are.

        So an estimate goes through whatever stands between the backward pass and the optimizer,
        such as ZeRO; see `optim.torch.curvature` for the estimates.

        Args:
          estimate: Gives the estimate of the Hessian's diagonal from the gradient.

        Raises:
          TypeError: The algorithm has no curvature.
        """
        self._algorithm.require_curvature()
        self._estimate = estimate
        try:
            yield
        finally:
            self._estimate = None

    @contextmanager
    def paused(self) -> Iterator[None]:
        """Makes `step` leave parameters and state as they are, whatever the gradients.

        So a step is skipped whose gradients overflowed, while what stands around the optimizer,
        such as ZeRO, goes on as after any step.
        """
        self._is_paused = True
        try:
            yield
        finally:
            self._is_paused = False

    @torch.no_grad()
    def fractions(self) -> dict[str, float]:
        """Returns the fractions of weights, of those held here, that have a mark of the last step.

        Of Sophia it is "clipped"; of most algorithms there are none, see `Algorithm.marks`.

        Raises:
          ValueError: There would be some, and no step was made.
        """
        if not self._algorithm.mark_names:
            return {}
        # Parameters that are in no group, as ZeRO's third stage has them between steps, are not
        # known to have hyperparameters of their own.
        of_param = {
            param: algorithm
            for algorithm, group in zip(self._algorithms(), self.param_groups, strict=True)
            for param in group["params"]
        }
        marked = dict.fromkeys(self._algorithm.mark_names, 0)
        weights = 0
        for param, state in self.state.items():
            algorithm = of_param.get(param, self._algorithm)
            if not state["step"]:  # has an estimate and nothing else
                continue
            own = local(param)
            slots = [
                read(local_slot(state[slot], own), own, is_square=False) for slot in algorithm.slots
            ]
            for name, mask in algorithm.marks(torch, *slots).items():
                marked[name] += int(mask.sum())
            weights += own.numel()
        if not weights:
            raise ValueError("no step was made, so there is nothing to say of one")
        return {name: count / weights for name, count in marked.items()}

    def _check_algorithm(self, state_dict: dict[str, Any]) -> None:
        kind = type(self._algorithm)
        name, foreign = kind.__name__, foreign_hyperparameters(kind)
        own = to_group(self._algorithm).keys()  # to `defaults` torch adds some
        for number, group in enumerate(state_dict["param_groups"]):
            saved = group.keys() & {*own, *foreign}
            if saved != own:
                raise ValueError(
                    f"expected state of {name}, whose hyperparameters are "
                    f"{', '.join(sorted(own))}; got {', '.join(sorted(saved))}"
                )
            to_algorithm(kind, group, number)
        expected = {"step", *self._algorithm.slots}
        for state in state_dict["state"].values():
            if state and state.keys() != expected:
                raise ValueError(
                    f"expected state of {name}, which is {', '.join(sorted(expected))}; "
                    f"got {', '.join(sorted(state))}"
                )

    def _algorithms(self) -> list[Algorithm]:
        """Returns the rule with the hyperparameters of each group as they are now."""
        kind = type(self._algorithm)
        return [to_algorithm(kind, group, i) for i, group in enumerate(self.param_groups)]

    def _work(self) -> tuple[list[tuple[Algorithm, list[Row]]], dict[torch.Tensor, _State]]:
        """Returns the parameters that have gradients, by groups, and the state that is new."""
        numbers, state_of = count(), self.state.get
        new: dict[torch.Tensor, _State] = {}
        work = []
        for algorithm, group in zip(self._algorithms(), self.param_groups, strict=True):
            rows = []
            for param, place in zip(group["params"], numbers, strict=False):
                grad = param.grad
                if grad is None:
                    continue
                state = state_of(param)
                if not state:
                    state = new[param] = _new_state(algorithm, param)
                rows.append((place, param, grad, state))
            work.append((algorithm, rows))
        return work, new

    def _update_curvature(
        self,
        algorithm: Algorithm,
        estimate: Callable[[torch.Tensor], torch.Tensor],
        item: Item,
        own: Held,
    ) -> None:
        index = algorithm.slots.index("curvature")
        slot = own.slots[index]
        old = read(slot, own.param, is_square=False)
        estimated = estimate(own.grad.to(old.dtype))
        if estimated.shape != old.shape:
            raise ValueError(
                f"expected an estimate of the gradient's shape {tuple(old.shape)}, got "
                f"{tuple(estimated.shape)}"
            )
        new = algorithm.new_curvature(old, estimated)
        seed = contract.seed(int(item.state["step"]), item.place, index)
        write(slot, new, is_square=False, seed=seed)


def _new_state(algorithm: Algorithm, param: torch.Tensor) -> _State:
    """Returns what is kept for a parameter from its first step on."""
    slots = {slot: new_slot(param, algorithm.state_bits) for slot in algorithm.slots}
    return {"step": torch.zeros((), dtype=torch.float32), **slots}


def decay_groups(model: nn.Module, decaying: Container[str] | None = None) -> list[dict[str, Any]]:
    """Returns a model's parameters as two groups: what decays, and what does not.

    Args:
      model: Whose.
      decaying: Names of the parameters that decay; by default matrices and the like, and not
        vectors and single numbers, such as biases and the weights of norms.
    """
    groups: tuple[list[nn.Parameter], list[nn.Parameter]] = [], []
    for name, param in model.named_parameters():
        if param.requires_grad:
            decays = param.ndim > 1 if decaying is None else name in decaying
            groups[0 if decays else 1].append(param)
    return [{"params": groups[0]}, {"params": groups[1], "weight_decay": 0.0}]
