"""What a fused step of an optimizer takes, the same for both frameworks.

One call updates all tensors in one pass over their memory, in place. What each rule computes is
said in `//optim`, one file a rule; here are the numbers that it takes, in the native code's order.
"""

import os
from typing import NamedTuple

from kernels.dispatch import Support, requested_backend
from kernels.quantize.contract import Codec, codec


class Rule(NamedTuple):
    """Names of the numbers that a rule takes.

    Attributes:
      hyperparameters: what is the same in every step.
      scalars: what depends on the step.
    """

    hyperparameters: tuple[str, ...]
    scalars: tuple[str, ...]


# In the order of the native code's Rule.
RULES = {
    "adabelief": Rule(
        ("beta1", "beta2", "epsilon"), ("momentum", "deviation", "adaptive", "plain")
    ),
    "adamw": Rule(("beta1", "beta2", "epsilon"), ("momentum", "second_moment")),
    "adan": Rule(
        ("beta1", "beta2", "beta3", "epsilon"),
        ("momentum", "difference_momentum", "second_moment", "has_previous"),
    ),
    "lion": Rule(("beta1", "beta2"), ()),
    "sophia": Rule(("beta1", "gamma", "epsilon"), ()),
}
RULE_NAMES = tuple(RULES)

# In the order of the native code's DType: of weights and gradients, which must have the same.
DTYPES = ("float16", "bfloat16", "float32")

SUPPORT: Support = {
    "cpu": {"cpu": frozenset(DTYPES)},
    "triton": {"cuda": frozenset(DTYPES)},
}
if os.environ.get("TRITON_INTERPRET") == "1":
    # Triton's interpreter, for tests.
    SUPPORT = {**SUPPORT, "triton": {"cpu": frozenset(DTYPES)}}

# How slots of bytes are payloads of kernels/quantize. Stochastic, since a moving average moves by
# less than half a step of any 8-bit format, and would stand still.
CODEC: Codec = codec("float8_e4m3fn", block_size=256, rounding="stochastic")

# The smallest code but 0, without the scale. Roots of squares count as no less, while their block
# has any: weights would be divided by epsilon alone.
LEAST = 2.0**-9

# Smaller tensors keep float32: their bytes do not count, and each would need whole blocks.
MIN_BYTES_SIZE = 4096


def seed(step: int, index: int, slot: int) -> int:
    """Returns the seed of a slot's stochastic rounding, 32 bits.

    Args:
      step: the update's number, counted from 1.
      index: of the tensor, among the optimizer's.
      slot: index of the slot, in the rule's.
    """
    return (step * 0x9E3779B1 + index * 0x85EBCA77 + slot * 0xC2B2AE3D) & 0xFFFFFFFF


def backend(device: str) -> str | None:
    """Returns which of `SUPPORT` updates weights of `DTYPES` on this device.

    None where there is none, as on a TPU, or where `HPC_KERNEL_BACKEND` asks for another, such as
    "reference": then the rules are computed as they are written.

    Raises:
      UnsupportedKernelError: `HPC_KERNEL_BACKEND` is no backend's name.
    """
    requested = requested_backend()
    serving = (name for name, devices in SUPPORT.items() if device in devices)
    return next((name for name in serving if requested in ("", name)), None)
