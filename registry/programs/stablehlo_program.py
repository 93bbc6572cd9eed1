"""Programs of StableHLO, as `jax.export` serializes them. Needs jax and flatbuffers.

JAX itself says of such bytes that they must be trusted: they may call whatever is registered in the
process, Python's callbacks among it. What this project makes calls nothing, so that is refused.
"""

import re
from collections.abc import Mapping
from typing import Any

import jax
import jax.export
import numpy as np

from registry.programs.arguments import check_weights
from registry.programs.errors import ProgramError

Arrays = Mapping[str, np.ndarray]

# The one call that is let through: of the check that there is an example at all, which is gone
# before XLA sees the program.
_ALLOWED = re.compile(r"\bstablehlo\.custom_call @shape_assertion\(")
_CALL = re.compile(r"custom_call")
_TARGET = re.compile(r"custom_call @([\w.$-]+)|call_target_name = \"([^\"]*)\"")


def load(content: bytes, weights: Arrays) -> Any:
    """See `registry.programs.program.Loader`."""
    exported = jax.export.deserialize(bytearray(content))
    _check_calls(exported)
    (wanted, inputs), _ = jax.tree.unflatten(exported.in_tree, exported.in_avals)
    check_weights(weights, {name: (x.shape, x.dtype.name) for name, x in wanted.items()})
    call = jax.jit(exported.call)
    # By default JAX would make 32 bits of numbers of 64.
    with jax.enable_x64(True):
        placed = {name: jax.device_put(weights[name]) for name in wanted}

    def run(batch: Arrays) -> dict[str, np.ndarray]:
        with jax.enable_x64(True):
            results = call(placed, {name: batch[name] for name in inputs})
        return {name: np.asarray(result) for name, result in results.items()}

    return run


def _check_calls(exported: jax.export.Exported) -> None:
    """Refuses a program that calls what it does not define."""
    text = exported.mlir_module()
    if len(_CALL.findall(text)) != len(_ALLOWED.findall(text)):
        targets = {a or b for a, b in _TARGET.findall(text)} - {"shape_assertion"}
        raise ProgramError(
            "the stablehlo program calls foreign code, which no program of this project does: "
            f"{', '.join(sorted(targets))[:200] or 'a custom_call'}"
        )
    if exported.disabled_safety_checks:
        raise ProgramError("the stablehlo program asks that JAX's safety checks be left out")
