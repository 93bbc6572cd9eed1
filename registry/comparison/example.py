"""Two artifacts with evaluations, for tests of how they are compared and shown."""

from pathlib import Path

from hpc.artifact.v1 import artifact_pb2

from registry.comparison.sides import Side
from registry.evaluation_example import write_example
from registry.example import example_artifact


def example_sides(
    directory: Path, *, label_a: str = "digits:1.2.3", label_b: str = "digits@candidate"
) -> tuple[Side, Side]:
    """Two artifacts that differ in their seed and in how good and fast they are."""
    a, b = example_artifact(), example_artifact()
    b.version, b.training_run.seed = "1.3.0", 8
    config = {"run": {"seed": 7, "num_steps": 1200}, "data": {"source": "digits"}}
    other = {"run": {"seed": 8, "num_steps": 1200.5}, "data": {"source": "digits", "augment": True}}
    return (
        side(label_a, a, write_to=directory / "a", config=config, share=0.95),
        side(label_b, b, write_to=directory / "b", config=other, share=0.6, slowness=1.5),
    )


def side(
    label: str,
    artifact: artifact_pb2.Artifact,
    *,
    write_to: Path,
    config: dict[str, object] | None = None,
    share: float = 0.8,
    slowness: float = 1.0,
    host: str = "2 cores",
) -> Side:
    """One of them; see `registry.evaluation_example.write_example`."""
    stored = write_example(write_to, share=share, slowness=slowness, host=host)
    return Side(label, artifact, stored.evaluation.artifact_digest, config, stored)
