"""`show`: what an artifact says of itself, once every byte of it is verified."""

import json
from collections.abc import Mapping
from typing import Any

from hpc.artifact.v1 import artifact_pb2
from rich.text import Text

from base.text import printable
from registry.access import Access
from registry.artifact import LoadedArtifact, load
from registry.commands.options import AsJson, Reference, RegistryUrl, TrustFile
from registry.commands.output import as_facts, emit

KEY_WIDTH = 18


def describe(loaded: LoadedArtifact) -> Text:
    """Everything an artifact says about itself, a section a topic, a line a fact."""
    artifact = loaded.artifact
    text = Text.assemble(
        (f"{artifact.name} {artifact.version}", "bold"),
        ("  every file verified\n", "green"),
        f"sha256 {loaded.digest}\n",
    )
    inputs = {f"input {tensor.name}": _shape(tensor) for tensor in artifact.inputs}
    outputs = {f"output {tensor.name}": _shape(tensor) for tensor in artifact.outputs}
    files = {file.path: f"{file.size_bytes:,} bytes" for file in artifact.files}
    _add_section(text, "model", _model(loaded))
    _add_section(text, "signature", inputs | outputs)
    _add_section(text, "metrics", _metrics(artifact))
    _add_section(text, "training run", _run(artifact.training_run))
    _add_section(text, "libraries", dict(sorted(artifact.training_run.library_versions.items())))
    _add_section(text, "environment", dict(sorted(artifact.training_run.environment.items())))
    _add_section(text, "files", files)
    return text


def show(
    reference: Reference,
    registry: RegistryUrl = None,
    trust: TrustFile = None,
    as_json: AsJson = False,
) -> None:
    """Verify an artifact, every byte, and print what it says of itself."""
    found = Access(registry, trust).find(reference)
    loaded = load(found.directory)
    facts = {
        **as_facts(loaded.artifact),
        "digest": loaded.digest,
        "signers": [str(signer) for signer in found.verification.signers],
    }
    emit(facts, describe(loaded), as_json)


def _model(loaded: LoadedArtifact) -> dict[str, str]:
    artifact = loaded.artifact
    framework = artifact_pb2.Framework.Name(artifact.framework).removeprefix("FRAMEWORK_")
    num_parameters = sum(tensor.size for tensor in loaded.tensors.values())
    return {
        "architecture": artifact.model.architecture,
        "trained in": framework.lower(),
        "parameters": f"{num_parameters:,} in {len(loaded.tensors)} tensors",
        **_flat(json.loads(artifact.model.config_json)),
    }


def _metrics(artifact: artifact_pb2.Artifact) -> dict[str, str]:
    """Returns each metric, and its 95% interval if it has one."""
    facts = {}
    for name, value in sorted(artifact.metrics.items()):
        facts[name] = f"{value:.6g}"
        if name in artifact.metric_intervals:
            interval = artifact.metric_intervals[name]
            facts[name] += f" [{interval.low:.6g}, {interval.high:.6g}]"
    if artifact.num_evaluated:
        facts["of examples"] = f"{artifact.num_evaluated:,}"
    return facts


def _flat(config: Mapping[str, Any], path: str = "") -> dict[str, str]:
    """Returns each value by the path of its key."""
    facts: dict[str, str] = {}
    for key, value in config.items():
        section = isinstance(value, Mapping) and value
        facts |= _flat(value, f"{path}{key}.") if section else {f"{path}{key}": str(value)}
    return facts


def _run(run: artifact_pb2.TrainingRun) -> dict[str, str]:
    duration_s = (run.finished_at.ToNanoseconds() - run.started_at.ToNanoseconds()) / 1e9
    return {
        "started": run.started_at.ToJsonString(),
        "took": f"{duration_s:.1f} s for {run.steps:,} steps",
        "host": run.host,
        "commit": run.git_commit + (" with uncommitted changes" if run.git_dirty else ""),
        "config sha256": run.config_digest,
        "data sha256": run.data_digest,
        "seed": str(run.seed),
    }


def _shape(tensor: artifact_pb2.TensorSpec) -> str:
    shape = f"{tensor.datatype} [{', '.join(map(str, tensor.shape))}]"
    if tensor.HasField("padding"):
        return f"{shape}, shorter ones filled up with {tensor.padding:g}"
    return f"{shape}, as long as {tensor.follows}" if tensor.follows else shape


def _add_section(text: Text, title: str, facts: Mapping[str, str]) -> None:
    text.append(f"\n{title}\n", style="bold cyan")
    for key, value in facts.items():
        text.append(f"  {printable(key):<{KEY_WIDTH}} ", style="dim")
        text.append(f"{printable(value)}\n")
