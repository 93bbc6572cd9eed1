"""`bench`: an artifact measured, and what was found stored beside it."""

import os
import sys
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated, NamedTuple

import typer
from rich.console import Group, RenderableType
from rich.text import Text

from base.program import directory_from_user, from_user
from base.text import printable
from registry.access import Access, is_path
from registry.commands.options import (
    AsJson,
    Certificate,
    Chain,
    Reference,
    RegistryUrl,
    SigningKey,
    TrustFile,
)
from registry.commands.output import as_facts, emit, table
from registry.commands.publishing import signer_of
from registry.errors import ArtifactError
from registry.evaluations import StoredEvaluation
from registry.trust.signing import sign_directory

# What is said of an `--output` that was given as ''.
NO_OUTPUT = "--output: expected a new directory, got ''"

_LATENCIES = ("mean", "p50", "p90", "p99")


class _Options(NamedTuple):
    """What the user asked to be measured."""

    config: str | None
    overrides: tuple[str, ...]
    program: str | None
    batch_sizes: tuple[int, ...]
    num_calls: int


def bench(
    reference: Reference,
    config: Annotated[
        str | None,
        typer.Option(
            "--config",
            metavar="FILE",
            help="YAML of a run whose data and task it is measured on.",
            show_default="what it was trained from",
        ),
    ] = None,
    overrides: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="KEY.PATH=VALUE", help="Replace a value of --config."),
    ] = None,
    program: Annotated[
        str | None,
        typer.Option(
            "--program",
            help="What computes: flax, torch, stablehlo or torch_export.",
            show_default="what trained it",
        ),
    ] = None,
    batch_sizes: Annotated[
        list[int] | None,
        typer.Option("--batch-size", min=1, help="Timed; repeatable.", show_default="1, 8, 32"),
    ] = None,
    num_calls: Annotated[
        int, typer.Option("--num-calls", min=1, max=10**6, help="Timed of each batch size.")
    ] = 200,
    output: Annotated[
        str | None,
        typer.Option("--output", metavar="DIR", help="A new directory instead of the registry."),
    ] = None,
    key: SigningKey = None,
    certificate: Certificate = None,
    chain: Chain = None,
    registry: RegistryUrl = None,
    trust: TrustFile = None,
    as_json: AsJson = False,
) -> None:
    """Measure an artifact on held-out data, and its latency, throughput and memory; store it."""
    if is_path(reference) and output is None:
        raise ArtifactError(
            "a directory is in no registry, so the evaluation needs a place: give --output DIR"
        )
    # Checked before seconds are spent on imports.
    access = Access(registry, trust)
    found = access.find(reference)
    if output is not None and _is_taken(directory_from_user(output, NO_OUTPUT)):
        raise ArtifactError(f"--output: {printable(output)} is no new directory; name one")
    signer = signer_of(key, certificate, chain)
    options = _Options(config, tuple(overrides or ()), program, tuple(batch_sizes or ()), num_calls)
    with TemporaryDirectory(prefix="bench-") as temporary:
        place = Path(temporary, "evaluation")
        if output is not None:
            place = directory_from_user(output, NO_OUTPUT)
        stored = _measure(found.directory, place, options)
        if signer is not None:
            sign_directory(place, signer)
        where = str(place)
        if output is None:
            where = f"{access.store.url} beside {found.title}"
            access.store.add_evaluation(place)
            _warn_unless_trusted(access, stored)
    drawn = Group(*_drawn(stored), Text(f"stored in {where}\nsha256 {stored.digest}"))
    emit({**as_facts(stored.evaluation), "digest": stored.digest}, drawn, as_json)


def _warn_unless_trusted(access: Access, stored: StoredEvaluation) -> None:
    """Says of an evaluation that it counts for nothing here, if so, as long as it can be helped."""
    try:
        access.check_evaluation(stored)
    except ArtifactError as error:
        print(
            f"warning: the evaluation counts for nothing by your trust root: {error}; measure "
            "again with --key",
            file=sys.stderr,
        )


def _is_taken(place: Path) -> bool:
    """Whether something is there that is no empty directory."""
    try:
        return any(place.iterdir())
    except OSError:
        return os.path.lexists(place)


def _measure(directory: Path, place: Path, options: _Options) -> StoredEvaluation:
    # Seconds of imports, which come once all that can be refused without them has been.
    from evaluation.bench import bench as measure
    from evaluation.examples import EvaluationError
    from evaluation.speed_messages import SpeedOptions
    from train.config.load import load_config
    from train.config.schema import ConfigError

    if options.overrides and options.config is None:
        raise ArtifactError("--set replaces values of --config FILE, which is missing")
    speed: dict[str, object] = {"num_calls": options.num_calls}
    if options.batch_sizes:
        speed["batch_sizes"] = tuple(sorted(set(options.batch_sizes)))
    try:
        config = None
        if options.config is not None:
            config = load_config(from_user(options.config), options.overrides)
        return measure(
            directory,
            place,
            config=config,
            program=options.program,
            speed=SpeedOptions.model_validate(speed),
            tell=lambda line: print(line, file=sys.stderr),
        )
    except (ConfigError, EvaluationError, ValueError) as error:
        raise ArtifactError(str(error)) from error


def _drawn(stored: StoredEvaluation) -> list[RenderableType]:
    """Returns what was found, for people."""
    found = stored.evaluation
    metrics = []
    for name, value in sorted(found.metrics.items()):
        interval = found.metric_intervals.get(name)
        limits = "" if interval is None else f"[{interval.low:.6g}, {interval.high:.6g}]"
        metrics.append([name, f"{value:.6g}", limits])
    speeds = [
        [
            f"{speed.batch_size:,}",
            *(f"{getattr(speed, f'latency_{kind}_ms'):.3f}" for kind in _LATENCIES),
            f"{speed.examples_per_s:,.0f}",
        ]
        for speed in found.speeds
    ]
    memory = (found.peak_memory_bytes - found.base_memory_bytes) / 2**20
    return [
        Text(f"{found.data.num_examples:,} examples of {found.data.source}, {found.program}"),
        table(["metric", "value", "95% interval"], metrics),
        table(["batch", *(f"{kind} ms" for kind in _LATENCIES), "examples/s"], speeds),
        Text(
            f"first prediction after {found.load_s:.2f} s; the model takes {memory:,.0f} MiB, "
            f"libraries {found.base_memory_bytes / 2**20:,.0f} MiB"
        ),
    ]
