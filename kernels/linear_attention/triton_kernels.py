"""The variants of linear attention's Triton kernels that are compiled, and their blocks.

Arrays are contiguous and as in problem.h; the workspace is that of contract.workspace_bytes. The
sequence is cut into chunks. One kernel walks along it and writes down the state before each chunk;
another then takes all chunks at once. The backward pass does the same from the end, for the
gradient of the state. Sums are float32, and so are the weights until they enter a product; states
are kept in the dtype of the inputs, in which they enter products anyway. No atomics: results are
the same at every run.

Reference: Sun et al., "Retentive Network", 2023, arXiv:2307.08621; Yang et al., "Gated Linear
Attention", 2023, arXiv:2312.06635.
"""

from typing import Any, NamedTuple

from kernels.linear_attention.triton_backward import (
    linear_attention_bwd_decay,
    linear_attention_bwd_k,
    linear_attention_bwd_q,
    linear_attention_bwd_states,
    linear_attention_bwd_sums,
    linear_attention_bwd_v,
)
from kernels.linear_attention.triton_forward import linear_attention_fwd, linear_attention_states


class Variant(NamedTuple):
    """One kernel with everything fixed that has to be at compile time.

    `signature` gives the type of each run-time parameter in launch order; a number after a colon
    promises that the value is divisible by it. `constexprs` are the other parameters.
    """

    name: str
    kernel: Any
    signature: dict[str, str]
    constexprs: dict[str, Any]
    num_warps: int
    num_stages: int


class _Blocks(NamedTuple):
    block_v: int
    num_warps: int
    num_stages: int


# As CHUNK in contract.py.
_CHUNK = 64

# By kernel, width of the elements in bytes and BLOCK_D, which is BLOCK_K. Chosen from what the
# compiler reports, not tuned on hardware: blocks with few or no spills.
_STATES_BLOCKS = {
    (2, 64): _Blocks(32, 4, 3),
    (2, 128): _Blocks(32, 8, 3),
    (4, 64): _Blocks(32, 8, 2),
    (4, 128): _Blocks(32, 8, 2),
}
_FORWARD_BLOCKS = {
    (2, 64): _Blocks(64, 4, 1),
    (2, 128): _Blocks(128, 8, 1),
    (4, 64): _Blocks(32, 8, 1),
    (4, 128): _Blocks(32, 8, 1),
}
_GRAD_V_BLOCKS = {
    (2, 64): _Blocks(64, 8, 1),
    (2, 128): _Blocks(128, 8, 1),
    (4, 64): _Blocks(32, 8, 1),
    (4, 128): _Blocks(32, 8, 1),
}
_GRAD_QK_BLOCKS = {
    (2, 64): _Blocks(64, 8, 1),
    (2, 128): _Blocks(64, 8, 1),
    (4, 64): _Blocks(16, 8, 1),
    (4, 128): _Blocks(16, 8, 1),
}
_SUMS_BLOCKS = {(width, d): _Blocks(d, 4, 1) for width in (2, 4) for d in (64, 128)}
_BLOCKS = {
    linear_attention_states: _STATES_BLOCKS,
    linear_attention_fwd: _FORWARD_BLOCKS,
    linear_attention_bwd_sums: _SUMS_BLOCKS,
    linear_attention_bwd_states: _STATES_BLOCKS,
    linear_attention_bwd_v: _GRAD_V_BLOCKS,
    linear_attention_bwd_k: _GRAD_QK_BLOCKS,
    linear_attention_bwd_q: _GRAD_QK_BLOCKS,
}
_DTYPES = {"float16": ("fp16", 2), "bfloat16": ("bf16", 2), "float32": ("fp32", 4)}

# Pointers to arrays in the dtype of the inputs; the others point to float32.
_TENSORS = frozenset(
    f"{prefix}{name}_ptr" for prefix in ("", "grad_") for name in ("q", "k", "v", "out", "states")
)
_FLOATS = frozenset({"eps", "scale"})
_DIMENSIONS = frozenset({"key_dim", "value_dim"})  # Rows of 16-byte vectors.


def _type(name: str, short_type: str) -> str:
    if name.endswith("_ptr"):
        return f"*{short_type if name in _TENSORS else 'fp32'}:16"
    if name in _FLOATS:
        return "fp32"
    return "i32:8" if name in _DIMENSIONS else "i32"


def _variant(kernel: Any, name: str, dtype: str, block_d: int, blocks: _Blocks) -> Variant:
    constants = {
        # Three TF32 products give float32's precision on tensor cores.
        "PRECISION": "tf32x3" if dtype == "float32" else "ieee",
        "CHUNK": _CHUNK,
        "BLOCK_K": block_d,
        "BLOCK_V": blocks.block_v,
    }
    names = kernel.arg_names
    return Variant(
        name=name,
        kernel=kernel,
        signature={n: _type(n, _DTYPES[dtype][0]) for n in names if n not in constants},
        constexprs={n: constants[n] for n in names if n in constants},
        num_warps=blocks.num_warps,
        num_stages=blocks.num_stages,
    )


VARIANTS = (
    *(
        _variant(
            kernel,
            f"{kernel.__name__}_{dtype}_d{block_d}",
            dtype,
            block_d,
            blocks[_DTYPES[dtype][1], block_d],
        )
        for kernel, blocks in _BLOCKS.items()
        for dtype in _DTYPES
        for block_d in (64, 128)
    ),
    _variant(
        linear_attention_bwd_decay,
        linear_attention_bwd_decay.__name__,
        "float32",
        0,
        _Blocks(0, 1, 1),
    ),
)

# float16 is as bfloat16. bwd_decay is of one kind.
SAMPLE = tuple(
    variant
    for variant in VARIANTS
    if variant.name.endswith(("bfloat16_d128", "float32_d64", "bwd_decay"))
)
