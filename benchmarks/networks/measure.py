"""Trains and times as the options of `//benchmarks:networks` say, printing as it goes."""

import argparse
from collections.abc import Iterator
from functools import partial

import jax
import numpy as np

from benchmarks.harness.load import Grace
from benchmarks.harness.machine import Machine
from benchmarks.harness.record import Row, Scalar
from benchmarks.harness.suite import Measurement
from benchmarks.harness.timing import Step, measure_in_turns, run_once
from benchmarks.networks.cases import (
    DEFAULT,
    FLAX,
    LOSS_TABLE,
    OURS,
    QUICK,
    STEP_TABLE,
    Length,
)
from benchmarks.networks.report import HOW_TO_READ, REPORT, table
from benchmarks.networks.runs import run_config
from benchmarks.networks.sides import sides
from models.weights import init_weights
from train.recipe import batch_of, training_batches

# The loss at the end is the mean over so many steps.
_LAST_STEPS = 20


def prepare(args: argparse.Namespace) -> Measurement:
    """Returns what the options ask for."""
    length = QUICK if args.quick else DEFAULT
    return Measurement(
        results_name="networks",
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
            rows = list(_measure(framework, network, length))
            print("", *table(rows), sep="\n", flush=True)
            yield from rows


def _measure(framework: str, network: str, length: Length) -> Iterator[Row]:
    num_steps = length.steps_of(network)
    config = run_config(network, num_steps)
    weights = init_weights(config.model, config.run.seed)
    loader = training_batches(config, config.data.load().train)
    batches = [batch_of(config, loader, step) for step in range(num_steps)]
    both = sides(framework, network, config, weights)
    losses = {
        name: np.array([float(run(batch)) for batch in batches]) for name, run in both.items()
    }
    wait = jax.block_until_ready if framework == FLAX else (lambda loss: None)
    steps = {name: Step(partial(run, batches[0]), wait) for name, run in both.items()}
    first_s = {name: run_once(step)[1] for name, step in steps.items()}
    timings = measure_in_turns(steps, first_s, budget_s=length.budget_s)
    case: dict[str, Scalar] = {"network": network, "framework": framework}
    for name in both:
        yield Row(
            table=STEP_TABLE,
            case=case,
            step="training",
            side=name,
            timing=timings[name],
            metrics={
                "loss_at_the_end": float(losses[name][-_LAST_STEPS:].mean()),
                "differs_at_most": float(np.abs(losses[name] - losses[OURS]).max()),
                "times_ours": timings[name].median_ms / timings[OURS].median_ms,
            },
        )
        for number in (2**power for power in range(num_steps.bit_length())):
            yield Row(
                table=LOSS_TABLE,
                case={**case, "number": number},
                step="training",
                side=name,
                metrics={"loss": float(losses[name][number - 1])},
            )
