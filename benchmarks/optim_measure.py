"""Times optimizers as the options of `//benchmarks:optim` say, printing as it goes."""

import argparse
import math
import os
import time
from collections.abc import Iterator

import torch

from benchmarks.load import Grace
from benchmarks.machine import describe_machine
from benchmarks.measure import measure_in_turns, run_once
from benchmarks.optim_report import (
    HOW_TO_READ,
    findings,
    group_lines,
    groups,
    markdown,
    panels,
)
from benchmarks.optim_sides import OURS, Model, error_in_rates, sides
from benchmarks.plot import png
from benchmarks.program import Results
from benchmarks.record import Record, Row, finding_lines

_DISTRIBUTIONS = ("torch", "jax", "optax", "pytorch-optimizer", "bitsandbytes")

MODELS = (
    Model("small", 128, 6, 256),
    Model("medium", 384, 4, 1024),
    Model("large", 768, 4, 8192),
)
_BUDGET_S = 4.0
_QUICK_MODELS, _QUICK_BUDGET_S = MODELS[:2], 1.0


def measure(args: argparse.Namespace, command: str) -> Results:
    """Measures and prints everything."""
    record = _record(args, command)
    drawn = panels(record.rows)
    plot = png(
        drawn,
        title=f"Time of a step, {record.machine.cores} cores of {record.machine.cpu}",
        x_label="million weights",
        y_label="ms",
        columns=min(len(drawn), 2),
    )
    return Results(
        name="optim",
        record=record.model_dump_json(indent=1),
        plot=plot,
        page=lambda image: markdown(record, image),
    )


def _record(args: argparse.Namespace, command: str) -> Record:
    start = time.monotonic()
    torch.set_num_threads(len(os.sched_getaffinity(0)))
    machine = describe_machine(_DISTRIBUTIONS)
    Grace(args.grace_s).wait()
    print(HOW_TO_READ)
    models, budget_s = (_QUICK_MODELS, _QUICK_BUDGET_S) if args.quick else (MODELS, _BUDGET_S)
    rows: list[Row] = []
    for algorithm in args.algorithms:
        for framework in args.frameworks:
            for model in models:
                rows += _measure(framework, algorithm, model, budget_s)
                print("", *group_lines(groups(rows)[-1]), sep="\n", flush=True)
    found = findings(rows)
    print("", "Findings, the least over the models", *finding_lines(found), sep="\n", flush=True)
    return Record(
        benchmark="optim",
        command=command,
        machine=machine,
        settings={"budget_s": budget_s},
        duration_s=time.monotonic() - start,
        rows=tuple(rows),
        findings=found,
    )


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
