"""`alias` and `promote`: what names mean now, and when they may mean something else."""

from collections.abc import Sequence
from typing import Annotated

import typer
from hpc.registry.v1 import registry_pb2
from rich.console import Group
from rich.text import Text

from base.program import EXIT_FAILED, end_with_error, from_user
from base.text import printable
from registry.access import Access, open_registry
from registry.commands.evaluations import comparable
from registry.commands.options import AsJson, Reason, RegistryUrl, TrustFile
from registry.commands.output import as_facts, emit, table
from registry.comparison.gates import Gate
from registry.comparison.gates_file import read_gates
from registry.comparison.judging import all_passed, judge
from registry.errors import ArtifactError
from registry.store.aliases import ARCHIVED
from registry.store.stages import CHAMPION


def alias(
    alias: Annotated[str, typer.Argument(metavar="NAME@ALIAS", help="Such as digits@canary.")],
    reference: Annotated[
        str | None,
        typer.Argument(metavar="[REFERENCE]", help="Of the same model, what it is to mean."),
    ] = None,
    remove: Annotated[bool, typer.Option("--remove", help="Remove the alias.")] = False,
    reason: Reason = "",
    registry: RegistryUrl = None,
    as_json: AsJson = False,
) -> None:
    """Move an alias to a version, remove it, or show what it means.

    `candidate` is one; `champion` is moved by `promote`. `digits@archived` is a mark of many
    versions: set and removed, with --remove, for the one that REFERENCE names.
    """
    store = open_registry(registry)
    name, _, label = alias.partition("@")
    if not name or not label:
        raise ArtifactError(f"{printable(alias)}: expected NAME@ALIAS, such as digits@canary")
    if reference is None and not remove:
        found = store.resolve(alias)
        emit(as_facts(found), Text(f"{alias} is {found.name}:{found.version}"), as_json)
        return
    target = None if reference is None else store.resolve(reference)
    if target is not None and target.name != name:
        raise ArtifactError(f"{alias} names versions of {name}, and {reference} is {target.name}'s")
    if label == ARCHIVED:
        if target is None:
            raise ArtifactError(f"{ARCHIVED} marks many versions: name the one, as digits:1.0.0")
        change = store.unarchive if remove else store.archive
        move = change(name, target.version, reason=reason)
    else:
        if remove and target is not None:
            raise ArtifactError(f"--remove takes no REFERENCE, got {printable(str(reference))}")
        to_version = None if target is None else target.version
        move = store.move_alias(name, label, to_version, reason=reason)
    emit(as_facts(move), Text(_told(move)), as_json)


def promote(
    reference: Annotated[str, typer.Argument(metavar="REFERENCE", help="Such as digits:1.2.0.")],
    gates: Annotated[
        str | None,
        typer.Option("--gates", metavar="FILE", help="YAML of what must hold."),
    ] = None,
    force: Annotated[
        bool, typer.Option("--force", help="Promote whatever the gates say; needs --reason.")
    ] = False,
    reason: Reason = "",
    registry: RegistryUrl = None,
    trust: TrustFile = None,
    as_json: AsJson = False,
) -> None:
    """Make a version the champion of its model, if it passes the gates."""
    if force and not reason.strip():
        raise ArtifactError("--force needs --reason TEXT, which goes into the log")
    if gates is None and not force:
        raise ArtifactError(
            "--gates FILE is missing: say what must hold, or override with --force --reason TEXT"
        )
    access = Access(registry, trust)
    rules = [] if gates is None else read_gates(from_user(gates))
    version = access.find(reference).version
    if version is None:
        raise ArtifactError(f"{printable(reference)} is no version of a registry; publish it first")
    seat = access.store.aliases(version.name).get(CHAMPION)
    results = _judge(access, rules, version, seat)
    passed = all_passed(results)
    facts = {"gates": [as_facts(result) for result in results], "promoted": passed or force}
    verdicts = table(["gate", "outcome", "detail"], map(_verdict, results))
    if not passed and not force:
        emit({**facts, **as_facts(version)}, verdicts, as_json)
        end_with_error(
            f"{version.name}:{version.version} does not pass; the champion is as it was. --force "
            "--reason TEXT overrides the gates",
            EXIT_FAILED,
        )
    move = access.store.promote(
        version.name,
        version.version,
        reason=reason,
        forced=not (passed and rules),
        gates=results,
        after=0 if seat is None else seat.sequence,
    )
    drawn = Group(*([verdicts] if results else []), Text(_told(move)))
    emit({**facts, **as_facts(move)}, drawn, as_json)


def _judge(
    access: Access,
    gates: Sequence[Gate],
    candidate: registry_pb2.Version,
    seat: registry_pb2.AliasMove | None,
) -> list[registry_pb2.GateResult]:
    """Returns what gates say of a version that is to take the seat of the champion, if any."""
    champion = None
    if seat is not None:
        champion = access.store.resolve(f"{candidate.name}:{seat.to_version}")
    measured = comparable(access, candidate, champion)
    return judge(gates, *measured, has_champion=champion is not None)


def _verdict(result: registry_pb2.GateResult) -> list[str]:
    outcome = registry_pb2.GateOutcome.Name(result.outcome).removeprefix("GATE_OUTCOME_").lower()
    return [result.gate, outcome, result.detail]


def _told(move: registry_pb2.AliasMove) -> str:
    came = f", which was {move.from_version}" if move.from_version else ""
    forced = " (forced)" if move.forced else ""
    return f"{move.name}@{move.alias} is {move.to_version or 'nothing'}{came}{forced}"
