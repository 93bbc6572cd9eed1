"""Which backend a call of an operation takes, and why.

from kernels.attention import torch_op
from kernels.explain import explain

print(explain(torch_op.attention, q, k, v, causal=True))
"""

import sys
from collections.abc import Callable
from typing import Any


def explain(operation: Callable[..., Any], *args: Any, **options: Any) -> str:
    """Returns a line for each backend: whether and why the call takes it. Nothing is computed.

    Args:
      operation: the function of an operation's `torch_op` or `jax_op`.
      *args: what it would be called with.
      **options: likewise.

    Raises:
      TypeError: operation is not such a function.
      ValueError: the call itself would be refused.
    """
    module = sys.modules[operation.__module__]
    if not module.__name__.startswith("kernels.") or not hasattr(module, "explain"):
        raise TypeError(
            "explain takes the function of an operation, such as kernels.attention.torch_op."
            f"attention, got {operation.__module__}.{operation.__qualname__}"
        )
    text: str = module.explain(*args, **options)
    return text
