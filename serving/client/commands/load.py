"""`load`: what a server's callers see under load."""

import asyncio
import itertools
import json
from dataclasses import asdict, dataclass
from typing import Annotated, Any

import numpy as np
import typer

from base.files import write_file
from base.program import EXIT_FAILED, end_with_error, from_user
from registry.commands.output import emit
from serving.client.aio import AsyncInferenceClient
from serving.client.arrivals import Arrivals
from serving.client.commands.infer import request_of
from serving.client.commands.input_files import read_input
from serving.client.commands.load_report import Run, drawn_runs, report_of
from serving.client.commands.options import (
    DEFAULT_ADDRESS,
    Address,
    AsJson,
    Model,
    TimeoutS,
    Version,
)
from serving.client.encoding import encode_request
from serving.client.load import precise_loop, run_closed, run_open
from serving.client.outcomes import status_of
from serving.client.retries import RetryPolicy
from serving.client.samples import random_inputs
from serving.client.sync import InferenceClient

# Of all the requests that are sent in turns.
_MAX_BYTES = 64 * 2**20


Callers = Annotated[
    list[int] | None,
    typer.Option("--concurrency", metavar="N", help="Closed loop: so many callers; repeatable."),
]
Rates = Annotated[
    list[float] | None,
    typer.Option("--rate", metavar="R", help="Open loop: requests a second; repeatable."),
]
ArrivalsOption = Annotated[Arrivals, typer.Option(help="How those of an open loop follow.")]
DurationS = Annotated[float, typer.Option(help="Seconds of each load that count.")]
WarmUpS = Annotated[float, typer.Option(help="Seconds before that.")]
RampS = Annotated[float, typer.Option(help="Of the warm-up, seconds in which the load grows.")]
BatchSize = Annotated[int, typer.Option(help="Examples in a request.", min=1)]
Distinct = Annotated[
    int, typer.Option(help="Different requests that are sent in turns.", min=1, max=10_000)
]
InputFile = Annotated[
    str | None,
    typer.Option("--input", metavar="FILE", help="Send this, as infer does; else random ones."),
]
AttemptsOption = Annotated[
    int, typer.Option("--attempts", help="Of a request; 1: what is refused stays so.")
]
Seed = Annotated[int, typer.Option(help="Of inputs and arrivals.", min=0)]
ReportFile = Annotated[
    str | None, typer.Option("--output", metavar="FILE.json", help="Write the report there.")
]


@dataclass(frozen=True)
class Options:
    """What was asked for, as the report has it; each as the command's option of that name."""

    address: str
    model: str
    version: str
    concurrency: list[int]
    rate: list[float]
    arrivals: Arrivals
    duration_s: float
    warm_up_s: float
    ramp_s: float
    batch_size: int
    distinct: int
    input: str | None
    attempts: int
    timeout_s: float
    seed: int


def load(
    model: Model,
    callers: Callers = None,
    rates: Rates = None,
    arrivals: ArrivalsOption = Arrivals.POISSON,
    duration_s: DurationS = 10.0,
    warm_up_s: WarmUpS = 2.0,
    ramp_s: RampS = 0.0,
    batch_size: BatchSize = 1,
    distinct: Distinct = 64,
    input_file: InputFile = None,
    attempts: AttemptsOption = 1,
    timeout_s: TimeoutS = 10.0,
    seed: Seed = 0,
    report_file: ReportFile = None,
    version: Version = "",
    address: Address = DEFAULT_ADDRESS,
    as_json: AsJson = False,
) -> None:
    """Measure latency and throughput, closed or open loop."""
    options = Options(
        address=address,
        model=model,
        version=version,
        concurrency=callers or ([] if rates else [1]),
        rate=rates or [],
        arrivals=arrivals,
        duration_s=duration_s,
        warm_up_s=warm_up_s,
        ramp_s=ramp_s,
        batch_size=batch_size,
        distinct=distinct,
        input=input_file,
        attempts=attempts,
        timeout_s=timeout_s,
        seed=seed,
    )
    if report_file is not None and not from_user(report_file).parent.is_dir():
        raise ValueError(f"cannot write {report_file}: its directory does not exist")
    requests = _requests(options)
    with asyncio.Runner(loop_factory=precise_loop) as runner:
        runs = runner.run(_run(options, requests))
    report = report_of(asdict(options), requests, runs)
    emit(report, drawn_runs(runs), as_json)
    if report_file is not None:
        try:
            write_file(from_user(report_file), json.dumps(report, indent=2).encode())
        except OSError as error:
            end_with_error(f"cannot write {report_file}: {error.strerror}", EXIT_FAILED)
    if any(not run.result.latency.count for run in runs):
        end_with_error("a load had no answers", EXIT_FAILED)


def _requests(options: Options) -> list[bytes]:
    """What is sent, encoded once. The first is tried, so that what is wrong is told at once.

    Raises:
        ValueError: the file or the options do not fit the model.
        InferenceError: the server does not answer the first.
    """
    with InferenceClient(options.address, options.timeout_s) as client:
        if options.input is not None:
            given = request_of(client, read_input(options.input), options.model, options.version)
            requests = [
                encode_request(
                    options.model,
                    given.inputs,
                    version=options.version,
                    outputs=given.outputs,
                    parameters=given.parameters,
                )
            ]
        else:
            metadata = client.model_metadata(options.model, options.version)
            rng = np.random.default_rng(options.seed)

            def request() -> bytes:
                inputs = random_inputs(metadata, options.batch_size, rng)
                return encode_request(options.model, inputs, version=options.version)

            requests = [request()]
            while len(requests) < min(options.distinct, _MAX_BYTES // len(requests[0])):
                requests.append(request())
        client.infer_encoded(requests[0])
    return requests


async def _run(options: Options, requests: list[bytes]) -> list[Run]:
    """Each load, one after the other, over the same connections."""
    in_turns = itertools.cycle(requests)
    retry = RetryPolicy(max_attempts=options.attempts)
    common: dict[str, Any] = {
        "warm_up_s": options.warm_up_s,
        "ramp_s": options.ramp_s,
        "classify": status_of,
    }
    runs = []
    async with AsyncInferenceClient(options.address, options.timeout_s, retry=retry) as client:

        async def call() -> object:
            return await client.infer_encoded(next(in_turns))

        for callers in options.concurrency:
            closed = await run_closed(call, callers, options.duration_s, **common)
            runs.append(Run("concurrency", callers, closed))
        for rate_hz in options.rate:
            opened = await run_open(
                call,
                rate_hz,
                options.duration_s,
                arrivals=options.arrivals,
                seed=options.seed,
                **common,
            )
            runs.append(Run("rate", rate_hz, opened))
    return runs
