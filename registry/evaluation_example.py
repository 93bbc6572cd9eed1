"""Evaluations for tests, of no model: what it was right on is drawn."""

from pathlib import Path

import numpy as np
from hpc.registry.v1 import registry_pb2

from registry.evaluations import StoredEvaluation, write_evaluation

NUM_EXAMPLES = 40


def example_outcomes(seed: int = 0, share: float = 0.8) -> dict[str, np.ndarray]:
    """Outcomes of 40 examples, of which about a share is right."""
    rng = np.random.default_rng(seed)
    right = rng.random(NUM_EXAMPLES) < share
    return {"accuracy": right, "loss_nats": np.where(right, 0.2, 1.5) * rng.random(NUM_EXAMPLES)}


def example_evaluation(
    outcomes: dict[str, np.ndarray], *, slowness: float = 1.0, host: str = "2 cores"
) -> registry_pb2.Evaluation:
    """A message that obeys every rule, of these outcomes.

    Args:
        outcomes: `accuracy` and `loss_nats`.
        slowness: Factor of every latency.
        host: On which it was measured.
    """
    metrics = {name: float(values.mean()) for name, values in outcomes.items()}
    evaluation = registry_pb2.Evaluation(
        artifact_digest="a" * 64,
        name="digits",
        version="1.2.3",
        data=registry_pb2.Data(
            source="digits",
            digest="b" * 64,
            examples_digest="c" * 64,
            split="test",
            num_examples=NUM_EXAMPLES,
        ),
        metrics=metrics | {"calibration_error": 0.05},
        metric_intervals={
            "accuracy": registry_pb2.Interval(low=metrics["accuracy"] - 0.1, high=1.0),
        },
        higher_is_better={"accuracy": True, "loss_nats": False, "calibration_error": False},
        speeds=[
            registry_pb2.Speed(
                batch_size=size,
                num_calls=100,
                latency_mean_ms=0.5 * size * slowness,
                latency_p50_ms=0.4 * size * slowness,
                latency_p90_ms=0.7 * size * slowness,
                latency_p99_ms=1.0 * size * slowness,
                examples_per_s=2000 / slowness,
            )
            for size in (1, 8)
        ],
        load_s=0.25,
        peak_memory_bytes=300_000_000,
        base_memory_bytes=200_000_000,
        program="flax",
        git_commit="0123456789abcdef0123456789abcdef01234567",
        host=host,
        library_versions={"jax": "0.10.2"},
        examples_sha256="d" * 64,
    )
    evaluation.measured_at.FromSeconds(1_800_000_100)
    return evaluation


def write_example(
    directory: Path,
    *,
    seed: int = 0,
    share: float = 0.8,
    slowness: float = 1.0,
    host: str = "2 cores",
    artifact_digest: str = "a" * 64,
) -> StoredEvaluation:
    """Writes an evaluation."""
    outcomes = example_outcomes(seed, share)
    evaluation = example_evaluation(outcomes, slowness=slowness, host=host)
    evaluation.artifact_digest = artifact_digest
    return write_evaluation(directory, evaluation, outcomes, np.ones(NUM_EXAMPLES))
