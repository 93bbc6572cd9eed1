"""Times optimizers as the options of `//benchmarks:optim` say, printing as it goes."""

import argparse
import math
import os
from collections.abc import Iterator
from functools import partial

import torch

from benchmarks.harness.load import Grace
from benchmarks.harness.machine import Machine
from benchmarks.harness.record import Row
from benchmarks.harness.suite import Measurement
from benchmarks.harness.timing import measure_in_turns, run_once
from benchmarks.optim.cases import DEFAULT, OURS, QUICK, Model, Preset
from benchmarks.optim.report import HOW_TO_READ, REPORT, group_lines
from benchmarks.optim.sides import error_in_rates, sides

_DISTRIBUTIONS = ("torch", "jax", "optax", "pytorch-optimizer", "bitsandbytes")


def prepare(args: argparse.Namespace) -> Measurement:
    """Returns what the options ask for."""
    preset = QUICK if args.quick else DEFAULT
    return Measurement(
        results_name="optim",
        distributions=_DISTRIBUTIONS,
        settings={"budget_s": preset.budget_s},
        rows=partial(_rows, args, preset),
        report=REPORT,
    )


def _rows(args: argparse.Namespace, preset: Preset, machine: Machine) -> Iterator[Row]:
    torch.set_num_threads(len(os.sched_getaffinity(0)))
    Grace(args.grace_s).wait()
    print(HOW_TO_READ)
    for algorithm in args.algorithms:
        for framework in args.frameworks:
            for model in preset.models:
                rows = list(_measure(framework, algorithm, model, preset.budget_s))
                print("", *group_lines(rows), sep="\n", flush=True)
                yield from rows


def _measure(framework: str, algorithm: str, model: Model, budget_s: float) -> Iterator[Row]:
    all_sides = dict(sides(framework, algorithm, model))
    first_s, differs, expected = {}, {}, None
    for name, side in all_sides.items():
        result, _ = run_once(side.step)
        weights = side.step.arrays(result)
        expected = [x.copy() for x in weights] if expected is None else expected
        differs[name] = error_in_rates(weights, expected)
        _, first_s[name] = run_once(side.step)  # without compilation
    timings = measure_in_turns(
        {name: side.step for name, side in all_sides.items()}, first_s, budget_s=budget_s
    )
    num_weights = sum(math.prod(shape) for shape in model.shapes)
    for name, side in all_sides.items():
        yield Row(
            table="step",
            case={
                "algorithm": algorithm,
                "framework": framework,
                "model": model.name,
                "weights": num_weights,
                "tensors": len(model.shapes),
            },
            step="update",
            side=name,
            timing=timings[name],
            metrics={
                "times_ours": timings[name].median_ms / timings[OURS].median_ms,
                "state_bytes_per_weight": side.state_bytes() / num_weights,
                "differs_in_rates": differs[name],
            },
        )
