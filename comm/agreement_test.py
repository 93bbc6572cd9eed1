"""PyTorch's and JAX's collectives make the same bits of the same values.

Each is the other's oracle: several gloo processes on one side, virtual devices on the other.
"""

import functools
from typing import Any, NamedTuple

import jax
import numpy as np
import pytest
import torch
from jax.sharding import PartitionSpec as P

from comm.compression import Compression
from comm.jax import collectives as jax_collectives
from comm.testing import ranks
from comm.testing.virtual_devices import make_mesh
from comm.torch import collectives as torch_collectives
from comm.torch.feedback import Feedback
from kernels.quantize.contract import codec

NUM_STEPS = 3

# Several pieces, of all-reduce and of reduce-scatter, and none of the last ones whole.
SIZE = 5_004
BUCKET_BYTES = 8_192


class Case(NamedTuple):
    """A collective, done NUM_STEPS times."""

    format: str
    rounding: str
    has_feedback: bool
    dtype: str = "float32"

    @property
    def compression(self) -> Compression:
        """Returns how values travel."""
        chosen = codec(self.format, block_size=64, rounding=self.rounding)
        return Compression(chosen, bucket_bytes=BUCKET_BYTES, seed=3)


# Every two of format, rounding and feedback meet, and both other dtypes.
CASES = [
    Case("int8", "nearest", True),
    Case("int8", "stochastic", False),
    Case("float8_e4m3fn", "nearest", False),
    Case("float8_e4m3fn", "stochastic", True),
    Case("float8_e5m2", "nearest", True),
    Case("float8_e5m2", "stochastic", False),
    Case("int8", "nearest", True, "bfloat16"),
    Case("int8", "stochastic", True, "float16"),
]

# A program takes a second to compile.
CASES_OF = {2: [CASES[3], CASES[5], CASES[7]], 4: CASES}


class Results(NamedTuple):
    """Of all steps: [NUM_STEPS, world_size, size] each, in bits."""

    all_reduced: np.ndarray
    scattered: np.ndarray


def _values(world_size: int) -> np.ndarray:
    """[NUM_STEPS, world_size, SIZE] float32."""
    rng = np.random.default_rng(world_size)
    shape = (NUM_STEPS, world_size, SIZE)
    return (rng.normal(size=shape) * 10 ** rng.uniform(-4, 0, SIZE)).astype("f4")


def _of_torch(rank: int, world_size: int, cases: list[Case]) -> list[tuple[Any, Any]]:
    """Returns (all-reduced, scattered) of each case, [NUM_STEPS, size] in bits, of one rank."""
    values = torch.from_numpy(_values(world_size)[:, rank])
    return [_case_of_torch(values, world_size, case) for case in cases]


def _case_of_torch(values: torch.Tensor, world_size: int, case: Case) -> tuple[Any, Any]:
    values = values.to(getattr(torch, case.dtype))
    compression, all_reduced, scattered = case.compression, [], []
    feedbacks = [Feedback(), Feedback()] if case.has_feedback else [None, None]
    for step, x in enumerate(values):
        share = x.new_empty(SIZE // world_size)
        torch_collectives.reduce_scatter(
            share, x, compression, average=True, feedback=feedbacks[0], step=step
        )
        scattered.append(_bits(share))
        total = x.clone()
        torch_collectives.all_reduce(
            total, compression, average=True, feedback=feedbacks[1], step=step
        )
        all_reduced.append(_bits(total))
    return np.stack(all_reduced), np.stack(scattered)


def _bits(x: torch.Tensor) -> np.ndarray:
    return x.view(torch.int16 if x.element_size() == 2 else torch.int32).numpy().copy()


@functools.cache
def _all_of_torch(world_size: int) -> dict[Case, Results]:
    cases = CASES_OF[world_size]
    of_ranks = ranks.run(_of_torch, world_size, cases)
    results = {}
    for case, of_case in zip(cases, zip(*of_ranks, strict=True), strict=True):
        all_reduced, scattered = (np.stack(x, axis=1) for x in zip(*of_case, strict=True))
        results[case] = Results(all_reduced, scattered)
    return results


def _of_jax(case: Case, world_size: int) -> Results:
    values = jax.numpy.asarray(_values(world_size)).astype(case.dtype)
    compression = case.compression
    feedback = residual = None
    if case.has_feedback:
        feedback = jax_collectives.init_feedback(compression, SIZE, world_size)
        residual = feedback.local

    def run(values: jax.Array) -> tuple[jax.Array, jax.Array]:
        def one_step(carry: Any, xs: Any) -> Any:
            feedback, residual = carry
            x, step = xs
            options = {"average": True, "step": step}
            total = jax_collectives.compressed_psum(
                x, "data", compression, feedback=feedback, **options
            )
            share = jax_collectives.compressed_psum_scatter(
                x, "data", compression, residual=residual, **options
            )
            if case.has_feedback:
                (total, feedback), (share, residual) = total, share
            return (feedback, residual), (total, share)

        start = jax.tree.map(lambda x: jax.lax.pcast(x, "data", to="varying"), (feedback, residual))
        xs = (values[:, 0], jax.numpy.arange(NUM_STEPS))
        totals, shares = jax.lax.scan(one_step, start, xs)[1]
        return totals[:, None], shares[:, None]

    by_device = P(None, "data")
    mapped = jax.shard_map(
        run, mesh=make_mesh(data=world_size), in_specs=by_device, out_specs=(by_device, by_device)
    )
    bits = "int16" if values.dtype.itemsize == 2 else "int32"
    return Results(*(np.asarray(x).view(bits) for x in jax.jit(mapped)(values)))


@pytest.mark.parametrize(
    ("world_size", "case"),
    [(world_size, case) for world_size, cases in CASES_OF.items() for case in cases],
    ids=lambda value: str(value) if isinstance(value, int) else "-".join(map(str, value)),
)
def test_both_frameworks_make_the_same_bits(world_size: int, case: Case) -> None:
    of_torch, of_jax = _all_of_torch(world_size)[case], _of_jax(case, world_size)
    np.testing.assert_array_equal(of_jax.all_reduced, of_torch.all_reduced)
    np.testing.assert_array_equal(of_jax.scattered, of_torch.scattered)
    for rank in range(1, world_size):
        np.testing.assert_array_equal(of_torch.all_reduced[:, rank], of_torch.all_reduced[:, 0])
