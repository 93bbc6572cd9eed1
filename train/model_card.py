"""The model card of an artifact: Markdown that is made of its facts, and of nothing else.

It begins with the YAML that the Hugging Face Hub reads of a `README.md`. Equal facts give equal
bytes. Text of others, such as the names of classes, is escaped.

Reference: Mitchell et al., "Model Cards for Model Reporting", 2019, arXiv:1810.03993; the YAML is
that of https://huggingface.co/docs/hub/model-cards.
"""

import json
import math
import re
from collections.abc import Iterator, Mapping

import numpy as np
from hpc.artifact.v1 import artifact_pb2

from base.text import printable
from registry.descriptor import TRAINING_CONFIG
from registry.programs.program import program_names
from train.config.schema import TrainConfig
from train.model_card_code import loading

CARD_PATH = "README.md"

_LIBRARIES = {artifact_pb2.FRAMEWORK_FLAX: "flax", artifact_pb2.FRAMEWORK_TORCH: "pytorch"}
_FRAMEWORKS = {artifact_pb2.FRAMEWORK_FLAX: "Flax", artifact_pb2.FRAMEWORK_TORCH: "PyTorch"}

_MAX_CLASSES_SHOWN = 100

# What Markdown or HTML would take for something else than text.
_SPECIAL = re.compile(r"([\\`*_{}\[\]<>()#+!|~$&])")


def model_card(
    artifact: artifact_pb2.Artifact, weights: Mapping[str, np.ndarray], config: TrainConfig
) -> str:
    """Returns the card of a model that is about to be published.

    Args:
        artifact: Its descriptor; `files` is not looked at.
        weights: Its weights.
        config: Of the run.
    """
    parts = [
        _front_matter(artifact, config),
        [f"# {artifact.name} {artifact.version}", "", _what_it_is(artifact, weights, config), ""],
        _signature(artifact),
        _metrics(artifact, config),
        loading(artifact),
        _training(artifact, config),
        _limits(artifact, config),
    ]
    return "\n".join(line for part in parts for line in part).rstrip("\n") + "\n"


def escaped(text: str) -> str:
    """Returns text as Markdown shows it, on one line."""
    return _SPECIAL.sub(r"\\\1", printable(text))


def _front_matter(artifact: artifact_pb2.Artifact, config: TrainConfig) -> Iterator[str]:
    """What is in quotes is JSON, which is YAML too."""
    source, task = json.dumps(config.data.source), json.dumps(config.task)
    yield from ("---", f"library_name: {_LIBRARIES[artifact.framework]}", "tags:")
    tags = [config.task, artifact.model.architecture, *program_names(artifact)]
    yield from (f"- {json.dumps(tag)}" for tag in tags)
    yield from ("datasets:", f"- {source}", "metrics:")
    yield from (f"- {json.dumps(name)}" for name in sorted(artifact.metrics))
    yield from ("model-index:", f"- name: {json.dumps(artifact.name)}", "  results:")
    yield f"  - task: {{type: {task}}}"
    yield f"    dataset: {{name: {source}, type: {source}, split: test}}"
    yield "    metrics:"
    for name, value in sorted(artifact.metrics.items()):
        yield f"    - {{type: {json.dumps(name)}, value: {value!r}}}"
    yield from ("---", "")


def _what_it_is(
    artifact: artifact_pb2.Artifact, weights: Mapping[str, np.ndarray], config: TrainConfig
) -> str:
    count = sum(math.prod(tensor.shape) for tensor in weights.values())
    examples = config.data.describe()
    return (
        f"A network `{artifact.model.architecture}` of {count:,} weights in {len(weights)} "
        f"tensors, trained in {_FRAMEWORKS[artifact.framework]} for the task `{config.task}` on "
        f"{escaped(examples.unit)} of `{config.data.source}`."
    )


def _signature(artifact: artifact_pb2.Artifact) -> Iterator[str]:
    yield from ("## Signature", "", "| | tensor | datatype | shape |", "| --- | --- | --- | --- |")
    for kind, specs in (("input", artifact.inputs), ("output", artifact.outputs)):
        for spec in specs:
            shape = ", ".join("any" if size == -1 else str(size) for size in spec.shape)
            yield f"| {kind} | `{spec.name}` | {spec.datatype} | {shape} |"
    yield from ("", "The first dimension is the batch.", "")
    if artifact.class_names:
        names = [escaped(name) for name in artifact.class_names[:_MAX_CLASSES_SHOWN]]
        others = len(artifact.class_names) - len(names)
        more = f", and {others} more" if others else ""
        shown = ", ".join(names)
        yield f"Classes, in the order of the last dimension of the output: {shown}{more}."
        yield ""
    if artifact.HasField("image_preprocessing"):
        yield from (_from_image(artifact.image_preprocessing), "")


def _from_image(steps: artifact_pb2.ImagePreprocessing) -> str:
    color, resampling, fit = (
        kinds.Name(value).split("_")[-1].lower()
        for kinds, value in (
            (artifact_pb2.ColorMode, steps.color_mode),
            (artifact_pb2.Resampling, steps.resampling),
            (artifact_pb2.Fit, steps.fit),
        )
    )
    ground = ", made light on dark" if steps.light_on_dark else ""
    mean = f" - {list(steps.mean)}" if steps.mean else ""
    std = f" / {list(steps.std)}" if steps.std else ""
    values = f"(v * {steps.scale:.6g}{mean}){std}" if mean or std else f"v * {steps.scale:.6g}"
    return (
        f"An image of any size becomes the input so: {color}{ground}, brought to {steps.width} by "
        f"{steps.height} pixels (resampling: {resampling}, other proportions: {fit}), and each "
        f"value v from 0 to 255 becomes `{values}`."
    )


def _metrics(artifact: artifact_pb2.Artifact, config: TrainConfig) -> Iterator[str]:
    yield from ("## Metrics", "")
    yield (
        f"Measured on {artifact.num_evaluated:,} held-out {escaped(config.data.describe().unit)} "
        f"of `{config.data.source}`, which training did not see."
    )
    yield from ("", "| metric | value | 95% interval |", "| --- | --- | --- |")
    for name, value in sorted(artifact.metrics.items()):
        interval = ""
        if name in artifact.metric_intervals:
            found = artifact.metric_intervals[name]
            interval = f"{found.low:.6g} to {found.high:.6g}"
        yield f"| `{name}` | {value:.6g} | {interval} |"
    yield ""


def _training(artifact: artifact_pb2.Artifact, config: TrainConfig) -> Iterator[str]:
    run = artifact.training_run
    changed = " with uncommitted changes" if run.git_dirty else ""
    rows = {
        "data": f"`{config.data.source}`, SHA-256 `{run.data_digest}`",
        "configuration": f"[`{TRAINING_CONFIG}`]({TRAINING_CONFIG}), SHA-256 `{run.config_digest}`",
        "seed": f"{run.seed}",
        "updates": f"{run.steps:,}",
        "optimizer": f"`{config.optimizer.name}`",
        "run": escaped(run.run),
        "source tree": f"commit `{run.git_commit}`{changed}",
        "begun": run.started_at.ToJsonString(),
        "ended": run.finished_at.ToJsonString(),
        "machine": escaped(run.host),
    }
    if artifact.HasField("parent"):
        parent = artifact.parent
        whole = f"{parent.name} {parent.version}, SHA-256 `{parent.digest}`"
        rows["first weights"] = f"of {whole}, as far as they fit"
    yield from ("## Training", "", "| | |", "| --- | --- |")
    yield from (f"| {name} | {value} |" for name, value in rows.items())
    for name, values in (("library", run.library_versions), ("environment", run.environment)):
        yield from (
            f"| {name} {escaped(key)} | {escaped(value)} |" for key, value in sorted(values.items())
        )
    yield ""


def _limits(artifact: artifact_pb2.Artifact, config: TrainConfig) -> Iterator[str]:
    source, run = config.data.source, artifact.training_run
    yield from ("## Limits", "")
    yield (
        f"- What it does on anything but examples as those of `{source}` was not measured; nor was "
        "whether it does equally well for everyone."
    )
    if artifact.metric_intervals:
        yield (
            "- Intervals are of the draw of held-out examples, and of this one model: another seed "
            "gives another one."
        )
    without = sorted(set(artifact.metrics) - set(artifact.metric_intervals))
    if without:
        named = ", ".join(f"`{name}`" for name in without)
        yield f"- Of {named} no interval is known."
    if run.git_commit == "unknown":
        yield "- The commit of the source tree is not known: the run cannot be repeated exactly."
    elif run.git_dirty:
        yield (
            "- The source tree had changes that are in no commit: the run cannot be repeated "
            "exactly."
        )
    if not artifact.class_names:
        yield "- Its outputs have no names of classes."
    if not artifact.programs:
        yield "- It has no program: to compute it takes the network of the project that trained it."
    yield "- No licence is stated, neither of the model nor of the data."
    yield ""
