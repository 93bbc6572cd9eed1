"""Which networks are trained beside plain ones, on what, and for how long."""

from typing import Any, NamedTuple

FLAX, TORCH = FRAMEWORKS = ("flax", "torch")
OURS, PLAIN = "ours", "plain"
# Our network trained as the plain one is: what it costs without our trainer.
NETWORK_ALONE = "our network, plain step"
STEP_TABLE, LOSS_TABLE = "step", "loss"

LEARNING_RATE, BETA2, WEIGHT_DECAY = 3e-3, 0.99, 0.2
LABEL_SMOOTHING = 0.1
BATCH_SIZE = 64
IMAGE_SIZE, NUM_CLASSES = 8, 10

TRANSFORMER, PERCEPTRON = "transformer", "perceptron"
PATCH_SIZE, WIDTH, HEADS, BLOCKS, RATIO = 2, 64, 4, 3, 2
HIDDEN_SIZES = (512, 256, 128)

# `model.config` of our `mlp`; what it does not say is off.
MODELS: dict[str, dict[str, Any]] = {
    TRANSFORMER: {
        "input": {
            "patches": {"image_size": IMAGE_SIZE, "patch_size": PATCH_SIZE, "num_channels": 1}
        },
        "hidden_sizes": [WIDTH],
        "num_blocks": BLOCKS,
        "activation": "identity",
        "positions": {"learned": {"enabled": True}},
        "mixer": {"kind": "attention", "num_heads": HEADS},
        "feed_forward": {"hidden_ratio": RATIO},
        "final_norm": True,
        "num_classes": NUM_CLASSES,
    },
    PERCEPTRON: {
        "input": {"vector": {"shape": [IMAGE_SIZE, IMAGE_SIZE, 1]}},
        "hidden_sizes": list(HIDDEN_SIZES),
        "num_classes": NUM_CLASSES,
    },
}


class Preset(NamedTuple):
    """Steps of training whose losses are compared, and the time for both sides' afterwards."""

    num_steps: int
    budget_s: float


DEFAULT = Preset(200, 20.0)
QUICK = Preset(20, 3.0)


def run_config(network: str, num_steps: int) -> dict[str, Any]:
    """Returns the configuration of a run."""
    adamw = {"learning_rate": LEARNING_RATE, "beta2": BETA2, "weight_decay": WEIGHT_DECAY}
    return {
        "artifact": {"name": network, "version": "1.0.0"},
        "run": {"seed": 0, "num_steps": num_steps},
        "model": {"architecture": "mlp", "config": MODELS[network]},
        "data": {"source": "digits", "global_batch_size": BATCH_SIZE},
        "task": "classification",
        "loss": {"label_smoothing": LABEL_SMOOTHING},
        "optimizer": {"name": "adamw", "adamw": adamw},
        # The rate stays where it is.
        "schedule": {"kind": "warmup_cosine", "final_fraction": 1.0},
    }
