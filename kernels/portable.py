"""Whether operations are taken by their formulas, for programs that are to run without this code.

    with portable_operations():
        exported = jax.export.export(jax.jit(network))(...)

What is traced within is made of the framework's own operators alone: no call of native code, none
that only this project registers, and no shape that depends on values. That is what a program has to
be that is loaded where only JAX or PyTorch is installed. It takes more memory: attention keeps its
matrix of scores, linear attention is quadratic in the length, and every expert of a mixture sees
every token.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

_PORTABLE = ContextVar("portable", default=False)


@contextmanager
def portable_operations() -> Iterator[None]:
    """Makes operations that are traced within portable; of this thread alone."""
    token = _PORTABLE.set(True)
    try:
        yield
    finally:
        _PORTABLE.reset(token)


def is_portable() -> bool:
    """Whether `portable_operations` is at work."""
    return _PORTABLE.get()
