"""A DeepSpeed checkpoint that another number of ranks goes on from, or another stage of ZeRO.

DeepSpeed's own way there, the universal checkpoint, knows no run without ZeRO and cuts an
optimizer's state where it cuts weights, which is nowhere in bytes that share a scale. Here each
parameter's state is put together from what all ranks wrote, and each rank keeps what its engine
has of it:

    stage 0     all of it
    stage 1, 2  of a group's parameters, one after the other, an equal part
    stage 3     an equal part of each parameter; parts of several lie one after the other

State in 8 bits is rounded anew, as its blocks lie otherwise; all else is what it was, to the bit.
A rank has the whole of the weights, and then of one slot of the optimizer at a time, in memory.
"""

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any, NamedTuple, TypeAlias

import deepspeed
import torch
from torch import distributed, nn

from kernels.optimizer_step import contract
from optim.torch.optimizer import Optimizer
from optim.torch.slots import new_slot, read, write
from train.backends.nvme.swapped import (
    SwappedGroup,
    has_swapped,
    in_memory,
    read_swapped,
    swapped_groups,
)
from train.backends.torch_partitions import set_weights

# By a parameter's name: where values of it begin in a tensor of several, and how many there are.
_Spans: TypeAlias = Mapping[str, tuple[int, int]]


class _Written(NamedTuple):
    """A tensor that a rank's optimizer stepped.

    Attributes:
        weights: Itself, flat.
        spans: What of which parameters it has.
        state: Of the optimizer; empty before its first step.
    """

    weights: torch.Tensor
    spans: _Spans
    state: Mapping[str, torch.Tensor]

    def slot(self, name: str, *, is_square: bool) -> torch.Tensor:
        """Returns the numbers of a slot of the optimizer, flat."""
        return read(self.state[name].flatten(), self.weights, is_square=is_square)


class _Held(NamedTuple):
    """A tensor that this rank's optimizer steps.

    Attributes:
        tensor: Itself.
        spans: What of which parameters it has.
        starts: Where in each of them that begins.
    """

    tensor: torch.Tensor
    spans: _Spans
    starts: Mapping[str, int]

    def part_of(self, whole: Mapping[str, torch.Tensor]) -> torch.Tensor:
        """Returns what it has of numbers by parameter, each flat; float32, of its shape."""
        found = torch.zeros_like(self.tensor, dtype=torch.float32)
        for name, (at, size) in self.spans.items():
            part = whole[name][self.starts[name] : self.starts[name] + size]
            found.view(-1)[at : at + part.numel()] = part
        return found


class WrittenState:
    """What the ranks of a run have written of their engines.

    Attributes:
        world_size: How many they were.
        sub_group_size: Of stage 3, see `ZeroConfig`.
        was_swapped: Whether the optimizers' state was in files.
        stage: Of ZeRO; 1 stands for 2 too, which writes the same.

    Args:
        folder: Of DeepSpeed's files.
        names: Of the optimizer's parameters, group by group.
    """

    def __init__(self, folder: Path, names: Sequence[str]):
        self._folder, self._names = folder, names
        optimizers = _of_ranks(folder, "optim_states")
        models = _of_ranks(folder, "model_states")
        self._models = [_read(path) for path in models or [folder / "mp_rank_00_model_states.pt"]]
        self._optimizers = [_read(path)["optimizer_state_dict"] for path in optimizers]
        self.stage = 3 if models else min(1, len(optimizers))
        self.world_size = int(self.first["dp_world_size"])
        # Of earlier programs it was DeepSpeed's default.
        self.sub_group_size = int(self.first.get("sub_group_size", 10**9))
        self.was_swapped = has_swapped(folder)

    @property
    def first(self) -> Mapping[str, Any]:
        """What the first rank wrote beside the state of ZeRO's optimizer."""
        return self._models[0]

    def is_as_of(self, engine: deepspeed.DeepSpeedEngine) -> bool:
        """Whether DeepSpeed can load it into an engine, each rank what it wrote."""
        stage = engine.zero_optimization_stage()
        return (
            self.world_size == distributed.get_world_size()
            and self.stage == (1 if stage == 2 else stage)
            and (stage < 3 or self.sub_group_size == engine.zero_sub_group_size())
        )

    def module(self) -> dict[str, torch.Tensor]:
        """Returns the state of the network, whole."""
        state = dict(self.first["module"])
        if self.stage == 3:
            weights = self._whole(lambda written: written.weights)
            for name, shape in self._shapes().items():
                state[name] = weights[name][: shape.numel()].view(shape)
        return state

    def average(self, names: Sequence[str]) -> list[torch.Tensor]:
        """Returns the moving average of the tensors of these names, in its order, whole."""
        by_rank = zip(*(model["average"] for model in self._models), strict=True)
        if self.stage < 3:
            return [first for first, *_ in by_rank]
        shapes = self._shapes()
        return [
            torch.cat(values)[: shapes[name].numel()].view(shapes[name])
            if name in shapes
            else values[0]
            for name, values in zip(names, by_rank, strict=True)
        ]

    def steps(self) -> dict[str, int]:
        """Returns how many steps the optimizer's state of each parameter has had that has one."""
        return {
            name: int(written.state["step"])
            for written in self._written()
            if written.state
            for name in written.spans
        }

    def slot(self, name: str, *, is_square: bool) -> dict[str, torch.Tensor]:
        """Returns what the optimizer keeps in a slot of each parameter, flat, and maybe padded."""
        return self._whole(
            lambda written: written.slot(name, is_square=is_square) if written.state else None
        )

    def _whole(
        self, values_of: Callable[[_Written], torch.Tensor | None]
    ) -> dict[str, torch.Tensor]:
        """Puts together what all ranks wrote of each parameter, in their order."""
        parts: dict[str, list[torch.Tensor]] = {}
        for written in self._written():
            values = values_of(written)
            if values is not None:
                for name, (start, size) in written.spans.items():
                    parts.setdefault(name, []).append(values[start : start + size])
        return {name: torch.cat(of_ranks) for name, of_ranks in parts.items()}

    def _written(self) -> Iterator[_Written]:
        """Yields what the optimizers stepped, rank by rank."""
        if self.stage == 0:
            states = self.first["optimizer"]["state"]
            for number, name in enumerate(self._names):
                weights = self.first["module"][name].flatten()
                yield _Written(weights, {name: (0, weights.numel())}, states.get(number, {}))
        for rank, optimizer in enumerate(self._optimizers):
            if self.stage == 3:
                states = optimizer["optimizer_state_dict"]["state"]
                all_spans = [_consecutive(sizes) for sizes in self._parts()]
                flats = optimizer["fp32_flat_groups"]
            else:
                states = optimizer["base_optimizer_state"]["state"]
                all_spans = [
                    {name: (span.start, span.numel) for name, span in of_group.items()}
                    for of_group in optimizer["param_slice_mappings"]
                ]
                flats = [
                    nn.functional.pad(flat, (0, padding))  # which is written without
                    for flat, padding in zip(
                        optimizer["single_partition_of_fp32_groups"],
                        optimizer["group_paddings"],
                        strict=True,
                    )
                ]
            for number, (flat, spans) in enumerate(zip(flats, all_spans, strict=True)):
                own = read_swapped(self._folder, rank, number)
                weights, state = own or SwappedGroup(flat, states.get(number, {}))
                yield _Written(weights, spans, state)

    def _shapes(self) -> dict[str, torch.Size]:
        """Returns the whole shape of each parameter; under ZeRO."""
        return {
            name: shape for group in self.first["param_shapes"] for name, shape in group.items()
        }

    def _parts(self) -> Iterator[dict[str, int]]:
        """Yields the size of a rank's part of each parameter, group by group; of stage 3.

        A group of the optimizer is cut where `zero.sub_group_size` is reached.
        """
        for shapes in self.first["param_shapes"]:
            group: dict[str, int] = {}
            for name, shape in shapes.items():
                group[name] = -(-shape.numel() // self.world_size)
                if sum(group.values()) >= self.sub_group_size:
                    yield group
                    group = {}
            if group:
                yield group


@torch.no_grad()
def take_up(engine: deepspeed.DeepSpeedEngine, optimizer: Optimizer, written: WrittenState) -> None:
    """Gives an engine that has not stepped the weights and the optimizer's state; collective.

    Args:
        engine: Whose.
        optimizer: That it steps.
        written: By whichever ranks, of the same network and optimizer.
    """
    module = written.module()
    set_weights(engine.module, module)
    engine.global_steps = written.first["global_steps"]
    engine.global_samples = written.first["global_samples"]
    engine.skipped_steps = written.first["skipped_steps"]
    if engine.zero_optimization():  # whose optimizer steps copies
        weights = {name: tensor.flatten() for name, tensor in module.items()}
        for place, own in enumerate(_held(engine)):
            with _in_memory(engine, place):
                own.tensor.copy_(own.part_of(weights))
    algorithm, steps = optimizer.algorithm, written.steps()
    held = [(place, own) for place, own in enumerate(_held(engine)) if steps.keys() & own.spans]
    for place, own in held:
        step = torch.tensor(float(max(steps[name] for name in own.spans)))
        with _in_memory(engine, place):
            slots = {name: new_slot(own.tensor, algorithm.state_bits) for name in algorithm.slots}
            optimizer.state[own.tensor] = {"step": step, **slots}
    for index, name in enumerate(algorithm.slots):
        is_square = name in algorithm.squares
        whole = written.slot(name, is_square=is_square)
        for place, own in held:
            state = optimizer.state[own.tensor]
            seed = contract.seed(int(state["step"]), place, index)
            with _in_memory(engine, place):
                write(state[name], own.part_of(whole), is_square=is_square, seed=seed)


def _in_memory(engine: deepspeed.DeepSpeedEngine, place: int) -> AbstractContextManager[None]:
    """Has in memory in the block what the optimizer steps, if that is in files."""
    is_swapped = place in swapped_groups(engine)
    return in_memory(engine, place, changes=True) if is_swapped else nullcontext()


def _held(engine: deepspeed.DeepSpeedEngine) -> Iterator[_Held]:
    """Yields what this rank's optimizer steps, in its order."""
    names, optimizer = engine.param_names, engine.optimizer
    match engine.zero_optimization_stage():
        case 0:
            for group in optimizer.param_groups:
                for param in group["params"]:
                    name = names[param]
                    yield _Held(param, {name: (0, param.numel())}, {name: 0})
        case 1 | 2:
            flats = optimizer.single_partition_of_fp32_groups
            for flat, params in zip(flats, optimizer.bit16_groups, strict=True):
                of_name = {names[p]: p._hp_mapping for p in params if p._hp_mapping is not None}
                spans, starts = {}, {}
                for name, mapping in of_name.items():
                    span = mapping.hp_fragment_address
                    spans[name] = span.start, span.numel
                    starts[name] = mapping.lp_fragment_address.start
                yield _Held(flat, spans, starts)
        case 3:
            rank = distributed.get_rank()
            flats = optimizer.fp32_partitioned_groups_flat
            for flat, params in zip(flats, optimizer.fp16_groups, strict=True):
                sizes = {names[param]: param.partition_numel() for param in params}
                starts = {name: rank * size for name, size in sizes.items()}
                yield _Held(flat, _consecutive(sizes), starts)


def _consecutive(sizes: Mapping[str, int]) -> _Spans:
    spans, start = {}, 0
    for name, size in sizes.items():
        spans[name] = start, size
        start += size
    return spans


def _of_ranks(folder: Path, kind: str) -> list[Path]:
    """Returns the files that each rank wrote of a kind, in the ranks' order."""
    paths = folder.glob(f"zero_pp_rank_*_{kind}.pt")
    return sorted(paths, key=lambda path: int(re.findall(r"\d+", path.name)[0]))


def _read(path: Path) -> dict[str, Any]:
    # What is read was verified; tensors stay in the file until they are used.
    content: dict[str, Any] = torch.load(path, "cpu", weights_only=False, mmap=True)
    return content
