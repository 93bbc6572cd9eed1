"""From nothing to a served model: train, publish, serve, ask.

    ./bazelw run //:quickstart                         # trains in Flax
    ./bazelw run //:quickstart -- --framework torch    # trains in PyTorch, through DeepSpeed
    ./bazelw run //:quickstart -- --keep               # leaves the model serving until Ctrl-C

Trains the vision transformer of config/ on 1,437 real handwritten digits, publishes it as an
artifact, serves that from Ray Serve behind the gRPC gateway, and sends it the 360 held-out images
one request at a time. Exits with 1 if fewer than 97% of them are recognised as served.
"""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from enum import StrEnum
from pathlib import Path
from typing import Annotated, NamedTuple

import numpy as np
import typer
from PIL import Image
from rich.console import Console

from base.interrupts import Interrupted, take
from base.program import EXIT_FAILED, PathError, directory_from_user, end_with_error
from data.dataset import Split
from data.sources import digits
from registry.artifact import ArtifactError
from serving.client.errors import InferenceError
from serving.client.sync import InferenceClient
from train.callbacks.progress import show_progress
from train.checkpoint.run_directory import RunDirectoryError
from train.cli import NO_OUTPUT, unique_name
from train.config.load import load_config
from train.config.schema import ConfigError, TrainConfig
from train.meter import TrainingError
from train.preflight import check_run
from train.publication import Publication

PORTS = ("--grpc-port", "--http-port", "--admin-port")
REQUIRED_ACCURACY = 0.97
NUM_SAMPLES = 5
IMAGE = "digit.png"
STOP_TIMEOUT_S = 30.0


class Framework(StrEnum):
    """What to train in."""

    FLAX = "flax"
    TORCH = "torch"


class QuickstartError(Exception):
    """A stage that failed, and where to look."""


class Gateway(NamedTuple):
    """Where it answers, by each protocol: `host:port`."""

    grpc: str
    http: str


class Answers(NamedTuple):
    """What came back: the share of images recognised, and the seconds of every request."""

    accuracy: float
    latencies_s: np.ndarray


def main(
    framework: Annotated[Framework, typer.Option(help="What to train in.")] = Framework.FLAX,
    output: Annotated[
        str | None, typer.Option(help="New directory for the results.", show_default="in a cache")
    ] = None,
    keep: Annotated[bool, typer.Option("--keep", help="Keep serving until Ctrl-C.")] = False,
) -> None:
    """Train a model on real handwritten digits, serve it, and ask it about unseen ones."""
    console = Console(highlight=False)
    try:
        output = _new_run() if output is None else output
        run_dir = directory_from_user(output, NO_OUTPUT)
        _run(console, framework, run_dir, keep)
    except (PathError, ConfigError, ArtifactError, RunDirectoryError) as error:
        end_with_error(error)
    except (QuickstartError, TrainingError, InferenceError) as error:
        end_with_error(error, EXIT_FAILED)


def _run(console: Console, framework: Framework, run_dir: Path, keep: bool) -> None:
    config = load_config(Path(__file__).with_name("config") / "digits.yaml")
    check_run(config, run_dir, framework=framework.value, world_size=1)
    samples = run_dir / "samples.npy"

    with _stage(console, f"1  train in {framework} on 1,437 handwritten digits"):
        artifact_dir, artifact = _train(console, framework, config, run_dir)
    test = digits.load().test
    np.save(samples, test.inputs[:NUM_SAMPLES])
    _save_image(samples.with_name(IMAGE), test.inputs[0])

    with ExitStack() as stack:
        with _stage(console, "2  serve the artifact: a gateway, and replicas in Ray Serve"):
            gateway = stack.enter_context(_gateway(artifact_dir, run_dir / "gateway.log"))
            address = gateway.grpc
        with _stage(console, f"3  ask {address} about {len(test)} unseen digits, one by one"):
            answers = _ask(address, artifact.name, test)
        _report(console, answers, artifact_dir)
        if keep:
            _wait_for_interrupt(console, gateway, artifact.name, samples)
    if answers.accuracy < REQUIRED_ACCURACY:
        raise QuickstartError(f"fewer than {REQUIRED_ACCURACY:.0%} were recognised as served")


def _train(
    console: Console, framework: Framework, config: TrainConfig, directory: Path
) -> Publication:
    # Only the framework asked for is imported: each takes a second and much memory.
    if framework is Framework.FLAX:
        from train.train_flax import train
    else:
        from train.train_torch import train
    with show_progress(console) as progress:
        end = train(config, directory, [progress])
    assert isinstance(end, Publication)  # signals are not held back here
    return end


def _save_image(path: Path, digit: np.ndarray) -> None:
    """Saves a digit [height, width, 1] of values from 0 to 1 as the image that it was."""
    Image.fromarray(np.round(digit[..., 0] * 255).astype(np.uint8)).save(path)


@contextmanager
def _gateway(artifact_dir: Path, log: Path) -> Iterator[Gateway]:
    """Runs `//serving:up` as a process of its own and yields where it answers.

    Raises:
        QuickstartError: It ended before it was ready.
    """
    command = [sys.executable, "-m", "serving.up", "--model", str(artifact_dir)]
    command += [word for port in PORTS for word in (port, "0")]
    # Nobody turns away from it: we are its only caller.
    command += ["--drain.window-s", "0"]
    with (
        open(log, "wb") as log_file,
        subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=log_file,
            text=True,
            start_new_session=True,  # Ctrl-C comes to us alone, and we stop it in order
        ) as process,
    ):
        try:
            assert process.stdout is not None  # it is a pipe
            ready_line = process.stdout.readline()
            if not ready_line:
                raise QuickstartError(f"the gateway did not start; see {log}")
            addresses = dict(word.split("=") for word in ready_line.split() if "=" in word)
            yield Gateway(addresses["grpc"], addresses["http"])
        finally:
            _stop(process)


def _stop(process: subprocess.Popen[str]) -> None:
    """Lets the gateway drain; a further Ctrl-C does not cut that short."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    process.terminate()
    try:
        process.wait(STOP_TIMEOUT_S)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)


def _ask(address: str, model: str, split: Split) -> Answers:
    """Sends the images of `split` one at a time, each when the answer to the last is there."""
    predicted, latencies_s = [], []
    with InferenceClient(address) as client:
        for image in split.inputs:
            start = time.perf_counter()
            outputs = client.infer(model, {"image": image[np.newaxis]})
            latencies_s.append(time.perf_counter() - start)
            predicted.append(outputs["logits"].argmax())
    return Answers(float(np.mean(predicted == split.targets)), np.array(latencies_s))


def _report(console: Console, answers: Answers, artifact_dir: Path) -> None:
    latencies_s = answers.latencies_s
    p50_ms, p99_ms = np.percentile(latencies_s, [50, 99]) * 1e3
    console.print(
        f"\n   [bold green]{answers.accuracy:.2%}[/] recognised as served\n"
        f"   latency p50 {p50_ms:.1f} ms, p99 {p99_ms:.1f} ms, "
        f"{len(latencies_s) / latencies_s.sum():,.0f} requests/s from one caller\n"
        f"   artifact in {artifact_dir}\n\n"
        f"[bold]next[/]\n"
        f"   ./bazelw run //registry:hpc -- show {artifact_dir}\n"
        f"   ./bazelw run //:quickstart -- --keep\n"
        f"   ./bazelw run //serving:up -- --model {artifact_dir}\n"
        f"   ./bazelw run //infra/images:serving.load && podman run --rm -p 8000:8000 "
        f"-v {artifact_dir}:/model:ro hpc-serving",
        soft_wrap=True,
    )


def _wait_for_interrupt(console: Console, gateway: Gateway, model: str, samples: Path) -> None:
    image = samples.with_name(IMAGE)
    body = f'{{\\"image\\": \\"$(base64 -w0 {image})\\"}}'
    console.print(
        f"\n[bold]serving at {gateway.grpc} (gRPC) and {gateway.http} (HTTP) until Ctrl-C[/]; "
        "in another terminal:\n"
        f"   curl -s http://{gateway.http}/predict -H 'Content-Type: application/json' "
        f'-d "{body}"\n'
        f"   ./bazelw run //serving:client -- infer --address {gateway.grpc} --model {model} "
        f"--input {samples}",
        soft_wrap=True,
    )
    try:
        signal.pause()
    except Interrupted:
        take()
        console.print("stopping")


@contextmanager
def _stage(console: Console, title: str) -> Iterator[None]:
    """Prints what is about to happen, and then how long it took."""
    console.print(f"[bold cyan]{title}[/]", soft_wrap=True)
    start = time.perf_counter()
    yield
    console.print(f"[dim]   {time.perf_counter() - start:.1f} s[/]")


def _new_run() -> str:
    cache = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return f"{cache}/hpc/quickstart/{unique_name()}"
