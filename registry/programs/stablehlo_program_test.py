"""A program of StableHLO that calls what it does not define is refused before it is compiled."""

import jax
import jax.export
import numpy as np
import pytest

from registry.programs import example
from registry.programs.errors import ProgramError
from registry.programs.stablehlo_program import load

Arrays = dict[str, jax.Array]


def _exported(program: object, *disabled: jax.export.DisabledSafetyCheck) -> bytes:
    (batch,) = jax.export.symbolic_shape("batch")
    weights = {name: jax.ShapeDtypeStruct(x.shape, x.dtype) for name, x in example.WEIGHTS.items()}
    inputs = {"features": jax.ShapeDtypeStruct((batch, 4), np.float32)}
    exported = jax.export.export(jax.jit(program), disabled_checks=disabled)(weights, inputs)
    return bytes(exported.serialize())


def test_what_calls_nothing_is_let_through() -> None:
    run = load(example.stablehlo(), example.WEIGHTS)
    results = run({"features": example.PROBE})
    np.testing.assert_allclose(results["logits"], example.expected(example.PROBE), atol=1e-6)


def test_a_call_of_native_code_is_refused() -> None:
    def program(weights: Arrays, inputs: Arrays) -> Arrays:
        kind = jax.ShapeDtypeStruct((2,), np.float32)
        foreign = jax.ffi.ffi_call("hpc_anything", kind)(inputs["features"])
        return {"logits": inputs["features"] @ weights["weight"].T + foreign[0]}

    content = _exported(program, jax.export.DisabledSafetyCheck.custom_call("hpc_anything"))
    with pytest.raises(ProgramError, match="calls foreign code, .*: hpc_anything$"):
        load(content, example.WEIGHTS)


def test_safety_checks_are_not_left_out() -> None:
    def program(weights: Arrays, inputs: Arrays) -> Arrays:
        return {"logits": inputs["features"] @ weights["weight"].T}

    content = _exported(program, jax.export.DisabledSafetyCheck.platform())
    with pytest.raises(ProgramError, match="asks that JAX's safety checks be left out"):
        load(content, example.WEIGHTS)
