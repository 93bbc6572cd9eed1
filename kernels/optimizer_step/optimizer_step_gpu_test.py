"""The step on an NVIDIA GPU: the cubins, through torch and JAX, against the C++ one on the CPU.

Run by infra/gpu/run.sh, or by Bazel with --config=cuda. Without a GPU these tests fail.
"""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch

from kernels.optimizer_step import cases, contract, jax_op, torch_op
from kernels.testing.arrays import assert_same_bits

pytestmark = pytest.mark.gpu


@pytest.mark.parametrize("proximal", [False, True], ids=["decoupled", "proximal"])
@pytest.mark.parametrize("in_bytes", [False, True], ids=["floats", "bytes"])
@pytest.mark.parametrize("dtype", contract.DTYPES)
@pytest.mark.parametrize("rule", contract.RULES)
def test_torch_equals_the_cpu(rule: str, dtype: str, in_bytes: bool, proximal: bool) -> None:
    settings = {"in_bytes": in_bytes, "proximal": proximal}
    expected = cases.run(rule, dtype, **settings, device="cpu")
    assert_same_bits(cases.run(rule, dtype, **settings, device="cuda"), expected)


@pytest.mark.parametrize("rule", contract.RULES)
def test_jax_equals_the_cpu(rule: str) -> None:
    assert jax.default_backend() == "gpu", "JAX finds no GPU"
    numbers = cases.NUMBERS[rule]
    rng = np.random.default_rng(0)
    arrays = [rng.random(5000, dtype=np.float32) for _ in range(2 + numbers.num_slots)]
    settings = {
        "weight_decay": 0.1,
        "decay_is_proximal": False,
        "hyperparameters": numbers.hyperparameters,
    }
    param, grad, *slots = map(torch.from_numpy, [array.copy() for array in arrays])
    batch = torch_op.Batch(param.device)
    assert batch.take(param, grad, slots, 0)
    batch.step(rule, step=1, rate=0.5, scalars=numbers.scalars, **settings)
    param_jax, grad_jax, *slots_jax = map(jnp.asarray, arrays)
    (new,), (new_slots,) = jax_op.step(
        rule,
        [param_jax],
        [grad_jax],
        [slots_jax],
        step=jnp.int32(1),
        rate=jnp.float32(0.5),
        scalars=[jnp.float32(x) for x in numbers.scalars],
        decays=[True],
        **settings,
    )
    for ours, theirs in zip((new, *new_slots), (param, *slots), strict=True):
        np.testing.assert_array_equal(ours, theirs.numpy())
