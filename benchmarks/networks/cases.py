"""Which presets are trained beside plain networks, who trains them, and for how long."""

from typing import NamedTuple

FLAX, TORCH = FRAMEWORKS = ("flax", "torch")
OURS, PLAIN = "ours", "plain"
# Our network trained as the plain one is: what it costs without our trainer.
NETWORK_ALONE = "our network, plain step"
# The plain network as DeepSpeed's own documentation trains one.
PLAIN_DEEPSPEED = "plain, in DeepSpeed"
STEP_TABLE, LOSS_TABLE = "step", "loss"

DIGITS, MLP, CNN, BYTES = NETWORKS = ("digits", "mnist_mlp", "mnist_cnn", "bytes")


class Length(NamedTuple):
    """Steps of training whose losses are compared, and the time for all sides' afterwards.

    Attributes:
        num_steps: Of most networks.
        num_long_steps: Of the one whose steps take ten times as long.
        budget_s: For the timed steps of one network in one framework.
    """

    num_steps: int
    num_long_steps: int
    budget_s: float

    def steps_of(self, network: str) -> int:
        """Returns the number of steps of a network."""
        return self.num_long_steps if network == BYTES else self.num_steps


DEFAULT = Length(num_steps=100, num_long_steps=24, budget_s=15.0)
QUICK = Length(num_steps=20, num_long_steps=4, budget_s=3.0)
