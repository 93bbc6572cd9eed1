"""Quantization's test cases through JAX: most tests need no JAX."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from kernels.quantize import jax_op
from kernels.quantize.cases import MULTIPLIER, SEED, Case, Results


def through_jax(case: Case) -> Results:
    """What jax_op gives, all of it under one jit with a traced seed and offset."""
    codec, layout = case.codec, case.layout

    @jax.jit
    def run(x: Any, residual: Any, payloads: Any, noise: dict[str, Any]) -> dict[str, Any]:
        payload = jax_op.quantize(
            x,
            codec,
            num_chunks=layout.num_chunks,
            chunk_size=layout.chunk_size,
            residual=residual,
            **noise,
        )
        requantized = jax_op.reduce_quantize(
            payloads, layout.size, codec, multiplier=MULTIPLIER, residual=residual, **noise
        )
        results = {"payload": payload, "requantized": requantized}
        if residual is not None:
            for name, rest in (("payload", "residual"), ("requantized", "requantized residual")):
                results[name], results[rest] = results[name]
        results["values"] = jax_op.dequantize(
            results["payload"], layout.size, codec, chunk_size=layout.chunk_size, dtype=x.dtype
        )
        results["sum"] = jax_op.reduce(
            payloads, layout.size, codec, multiplier=MULTIPLIER, dtype=x.dtype
        )
        return results

    # The offset is of 64 bits.
    with jax.enable_x64(True):
        noise = {"seed": jnp.uint32(SEED), "offset": jnp.int64(case.offset)}
        arrays = jax.tree.map(jnp.asarray, (case.x, case.residual, case.payloads))
        return {name: np.asarray(x) for name, x in run(*arrays, noise).items()}
