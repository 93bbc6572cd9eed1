"""Trains and times as the options of `//benchmarks:training` say, printing as it goes."""

import argparse
import statistics
from collections.abc import Iterable, Iterator
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from benchmarks.harness.load import Grace
from benchmarks.harness.machine import Machine
from benchmarks.harness.record import Row
from benchmarks.harness.suite import Measurement
from benchmarks.harness.timing import summarize
from benchmarks.networks.cases import FLAX, STEP_TABLE
from benchmarks.networks.runs import run_config
from benchmarks.networks.sides import plain_loop_step
from benchmarks.training.cases import (
    DATA_TABLE,
    DEFAULT,
    DEFAULT_INTERVAL,
    DETERMINISTIC,
    DETERMINISTIC_NETWORK,
    LOOP,
    MAKING,
    PLAIN,
    QUICK,
    SAVING,
    SHORT_INTERVAL,
    Length,
)
from benchmarks.training.report import HOW_TO_READ, REPORT, data_table, step_table
from benchmarks.training.turns import Saves, Turns, Waiting
from models.weights import init_weights
from train import train_flax, train_torch
from train.config.load import load_config
from train.config.schema import TrainConfig
from train.events import Callback
from train.meter import TrainingError
from train.recipe import Batch, batch_of, training_batches

_PRESETS_DIR = Path(__file__).parents[2] / "config"

# Reports of so many steps, of presets whose step is short.
_DATA_REPORT_STEPS = 5


def prepare(args: argparse.Namespace) -> Measurement:
    """Returns what the options ask for."""
    length = QUICK if args.quick else DEFAULT
    return Measurement(
        results_name="training",
        distributions=("torch", "deepspeed", "jax", "flax", "optax"),
        settings=length._asdict(),
        rows=partial(_rows, args, length),
        report=REPORT,
    )


def _rows(args: argparse.Namespace, length: Length, machine: Machine) -> Iterator[Row]:
    Grace(args.grace_s).wait()
    print(HOW_TO_READ)
    for network in args.networks:
        for framework in args.frameworks:
            rows = list(_time_steps(framework, network, length))
            print("", *step_table(rows), sep="\n", flush=True)
            yield from rows
    rows = [
        _time_data(framework, preset, length)
        for preset in args.presets
        for framework in args.frameworks
    ]
    print("", *data_table(rows), sep="\n", flush=True)
    yield from rows


def _time_steps(framework: str, network: str, length: Length) -> Iterator[Row]:
    chunk = length.chunk_of(network)
    # It is ended before.
    config = _reported(run_config(network, 40 * chunk * (length.num_chunks + 2)), chunk)
    loader = training_batches(config, config.data.load().train)
    plain_step = plain_loop_step(framework, config, init_weights(config.model, config.run.seed))

    def plain_steps(batches: Iterable[Batch]) -> None:
        for batch in batches:
            loss = plain_step(batch)
        float(loss)  # waits for the device

    ready = [batch_of(config, loader, step) for step in range(chunk)]
    others = {
        PLAIN: lambda: plain_steps(ready),
        MAKING: lambda: plain_steps(batch_of(config, loader, step) for step in range(chunk)),
    }
    turns = Turns(chunk, length.num_chunks, [*others.values()])
    _train(framework, config, turns)
    seconds_of = {LOOP: turns.own_s, **dict(zip(others, turns.others_s, strict=True))}
    if network == DETERMINISTIC_NETWORK:
        # Of torch, the switch is of the process: the others would be deterministic, too.
        alone = Turns(chunk, length.num_chunks, [])
        _train(framework, _deterministic(config), alone)
        seconds_of[DETERMINISTIC] = alone.own_s
    case: dict[str, Any] = {"network": network, "framework": framework}
    for side, seconds in seconds_of.items():
        yield Row(
            table=STEP_TABLE,
            case=case,
            step="training",
            side=side,
            timing=summarize(seconds[1:]),
        )
    saves = Saves(length.num_chunks // 2)
    _train(framework, config, saves)
    chunk_s = statistics.median(saves.plain_s)
    step_s = chunk_s / chunk
    added_s = statistics.median(spent_s - number * chunk_s for spent_s, number in saves.saving_s)
    yield Row(
        table=STEP_TABLE,
        case=case,
        step="training",
        side=SAVING,
        timing=summarize([spent_s / number / chunk for spent_s, number in saves.saving_s]),
        metrics={
            "save_ms": 1e3 * added_s,
            "share_by_default": added_s / (DEFAULT_INTERVAL * step_s),
            "share_of_short_interval": added_s / (SHORT_INTERVAL * step_s),
        },
    )


def _time_data(framework: str, preset: str, length: Length) -> Row:
    content = load_config(_PRESETS_DIR / f"{preset}.yaml").model_dump()
    content |= {"zero": {}, "torch": {}}
    waiting = Waiting(length.data_s)
    _train(framework, _reported(TrainConfig.model_validate(content), _DATA_REPORT_STEPS), waiting)
    whole, data = sum(waiting.seconds.values()), waiting.seconds["data"]
    # While the host waits for a batch, a device that is asynchronous may still be at work.
    lost = max(0.0, data - waiting.seconds["device"])
    return Row(
        table=DATA_TABLE,
        case={"preset": preset, "framework": framework},
        step="training",
        side=LOOP,
        metrics={
            "step_ms": 1e3 * whole / waiting.num_steps,
            "data_ms": 1e3 * data / waiting.num_steps,
            "lost_share": lost / whole,
        },
    )


def _reported(config: TrainConfig, every_steps: int) -> TrainConfig:
    """Returns a run that reports so often, and is not saved unless a callback asks for it."""
    content = config.model_dump()
    content["run"]["log_every_steps"] = every_steps
    content["checkpoint"]["every_steps"] = None
    return TrainConfig.model_validate(content)


def _deterministic(config: TrainConfig) -> TrainConfig:
    content = config.model_dump()
    content["run"]["deterministic"] = True
    return TrainConfig.model_validate(content)


def _train(framework: str, config: TrainConfig, callback: Callback) -> None:
    """Trains in a directory of its own until the callback aborts the run."""
    train = train_flax.train if framework == FLAX else train_torch.train
    with TemporaryDirectory() as directory:
        try:
            train(config, Path(directory, "run"), [callback])
        except TrainingError:  # of the callback
            return
    raise AssertionError("the run ended before all was measured")
