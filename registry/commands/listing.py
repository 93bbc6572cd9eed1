"""`list` and `log`: what a registry holds, and what happened to it."""

from collections.abc import Iterable, Mapping
from typing import Annotated, Any

import typer
from hpc.artifact.v1 import artifact_pb2
from hpc.registry.v1 import registry_pb2
from rich.console import Group, RenderableType
from rich.text import Text

from registry.access import open_registry
from registry.commands.options import AsJson, RegistryUrl
from registry.commands.output import as_facts, emit, table
from registry.errors import ArtifactError
from registry.store.store import Store

SHOWN_DIGEST = 12  # digits; enough to resolve by
MAX_METRICS = 3  # in a line

Name = Annotated[str | None, typer.Argument(metavar="[NAME]", help="Of one model only.")]


def list_versions(name: Name = None, registry: RegistryUrl = None, as_json: AsJson = False) -> None:
    """List the models of a registry, or the versions of one."""
    store = open_registry(registry)
    if name is None:
        rows = [_model(store, model) for model in store.names()]
        columns = ["model", "newest", "versions", "aliases", "published (UTC)"]
        cells = [_model_cells(row) for row in rows]
    else:
        rows = _versions(store, name)
        columns = ["version", "aliases", "trained in", "metrics", "published (UTC)", "by", "sha256"]
        cells = [_cells(row) for row in rows]
    empty = f"nothing has been published to {store.url} yet"
    emit(rows, table(columns, cells) if rows else Text(empty), as_json)


def show_log(
    name: Annotated[str, typer.Argument(metavar="NAME", help="The model.")],
    registry: RegistryUrl = None,
    as_json: AsJson = False,
) -> None:
    """Show who published which version, and who moved which alias from where to where, and why."""
    store = open_registry(registry)
    events = sorted(
        [
            *(_publication(version) for version in store.versions(name)),
            *(_move(move) for move in store.moves(name)),
        ],
        key=lambda event: event["at"],
    )
    emit(events, _drawn_log(events), as_json)


def _model(store: Store, name: str) -> dict[str, Any]:
    try:
        versions, newest = store.versions(name), store.resolve(name)
    except ArtifactError as error:  # one damaged model hides no other
        return {"name": name, "error": str(error)}
    return {
        "name": name,
        "newest": newest.version,
        "num_versions": len(versions),
        "aliases": _aliases(store, name),
        "published_at": newest.published_at.ToJsonString(),
    }


def _model_cells(row: Mapping[str, Any]) -> list[str]:
    if "error" in row:
        return [row["name"], "", "", f"error: {row['error']}", ""]
    return [
        row["name"],
        row["newest"],
        str(row["num_versions"]),
        ", ".join(f"{alias} {version}" for alias, version in row["aliases"].items()),
        _minute(row["published_at"]),
    ]


def _aliases(store: Store, name: str) -> dict[str, str]:
    return {alias: move.to_version for alias, move in sorted(store.aliases(name).items())}


def _versions(store: Store, name: str) -> list[dict[str, Any]]:
    """Returns the versions of a model, the newest one first."""
    archived, aliases = store.archived(name), _aliases(store, name)
    rows = []
    for version in reversed(store.versions(name)):
        marks = [alias for alias, target in aliases.items() if target == version.version]
        row = {**as_facts(version), "aliases": marks, "archived": version.version in archived}
        try:
            row |= _said_by(store.descriptor(version.digest).artifact)
        except ArtifactError as error:  # one damaged version hides no other
            row["error"] = str(error)
        rows.append(row)
    return rows


def _said_by(artifact: artifact_pb2.Artifact) -> dict[str, Any]:
    framework = artifact_pb2.Framework.Name(artifact.framework).removeprefix("FRAMEWORK_")
    return {
        "framework": framework.lower(),
        "architecture": artifact.model.architecture,
        "metrics": dict(sorted(artifact.metrics.items())),
        "git_commit": artifact.training_run.git_commit,
        "git_dirty": artifact.training_run.git_dirty,
    }


def _cells(row: Mapping[str, Any]) -> list[str]:
    marks = [*row["aliases"], *(["archived"] if row["archived"] else [])]
    metrics = list(row.get("metrics", {}).items())[:MAX_METRICS]
    told = " ".join(f"{name} {value:.4g}" for name, value in metrics)
    return [
        row["version"],
        ", ".join(marks),
        row.get("framework", ""),
        f"error: {row['error']}" if "error" in row else told,
        _minute(row["published_at"]),
        row["published_by"],
        row["digest"][:SHOWN_DIGEST],
    ]


def _publication(version: registry_pb2.Version) -> dict[str, Any]:
    return {
        "at": version.published_at.ToJsonString(),
        "by": version.published_by,
        "what": "published",
        "version": version.version,
        "digest": version.digest,
    }


def _move(move: registry_pb2.AliasMove) -> dict[str, Any]:
    return {
        "at": move.moved_at.ToJsonString(),
        "by": move.moved_by,
        "what": "moved",
        "alias": move.alias,
        "from": move.from_version,
        "to": move.to_version,
        "digest": move.to_digest,
        "reason": move.reason,
        "forced": move.forced,
        "gates": [as_facts(gate) for gate in move.gates],
    }


def _drawn_log(events: Iterable[Mapping[str, Any]]) -> RenderableType:
    rows = []
    for event in events:
        if event["what"] == "published":
            rows.append([_minute(event["at"]), event["by"], f"published {event['version']}", ""])
            continue
        came = f"{event['from'] or 'nothing'} -> {event['to'] or 'nothing'}"
        why = " ".join([*(["FORCED"] if event["forced"] else []), event["reason"]])
        rows.append([_minute(event["at"]), event["by"], f"{event['alias']}: {came}", why])
        rows += [
            ["", "", "", f"{_outcome(gate)}: {gate['gate']} ({gate['detail']})"]
            for gate in event["gates"]
        ]
    return Group(table(["when (UTC)", "who", "what", "why"], rows))


def _outcome(gate: Mapping[str, Any]) -> str:
    return str(gate["outcome"]).removeprefix("GATE_OUTCOME_").lower()


def _minute(time: str) -> str:
    """Returns a time of RFC 3339 as `2026-11-29 09:56`, in UTC."""
    return time[:16].replace("T", " ")
