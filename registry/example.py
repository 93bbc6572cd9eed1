"""A small artifact for tests, so that no test has to train a model first."""

import json

import numpy as np
from hpc.artifact.v1 import artifact_pb2

MODEL_CONFIG = {
    "input": {"patches": {"image_size": 8, "patch_size": 4, "num_channels": 1}},
    "hidden_sizes": [16],
    "num_blocks": 1,
    "activation": "identity",
    "num_classes": 10,
    "positions": {"learned": {"enabled": True}},
    "mixer": {"kind": "attention"},
    "feed_forward": {"hidden_ratio": 2},
    "final_norm": True,
}


def example_artifact() -> artifact_pb2.Artifact:
    """A descriptor that obeys every rule, ready to publish."""
    artifact = artifact_pb2.Artifact(
        name="digits",
        version="1.2.3",
        framework=artifact_pb2.FRAMEWORK_FLAX,
        model=artifact_pb2.Model(architecture="mlp", config_json=json.dumps(MODEL_CONFIG)),
        inputs=[artifact_pb2.TensorSpec(name="image", datatype="FP32", shape=[-1, 8, 8, 1])],
        outputs=[artifact_pb2.TensorSpec(name="logits", datatype="FP32", shape=[-1, 10])],
        metrics={"accuracy": 0.97, "calibration_error": 0.02},
        metric_intervals={"accuracy": artifact_pb2.Interval(low=0.95, high=0.98)},
        num_evaluated=360,
        training_run=artifact_pb2.TrainingRun(
            git_commit="0123456789abcdef0123456789abcdef01234567",
            config_digest="a" * 64,
            data_digest="b" * 64,
            seed=7,
            host="2 cores",
            library_versions={"jax": "0.10.2"},
            steps=1200,
        ),
    )
    artifact.training_run.started_at.FromSeconds(1_800_000_000)
    artifact.training_run.finished_at.FromSeconds(1_800_000_042)
    return artifact


def example_tensors() -> dict[str, np.ndarray]:
    """Two tensors that fit no network, for tests that only store them."""
    return {
        "weight": np.arange(12, dtype=np.float32).reshape(3, 4),
        "scale": np.array(0.5, dtype=np.float64),
    }
