"""Traces what JAX does, for TensorBoard and Perfetto."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import jax


@contextmanager
def trace(directory: Path) -> Iterator[None]:
    """Traces the block, and writes `plugins/profile/TIME/{perfetto_trace.json.gz,*.xplane.pb}`."""
    options = jax.profiler.ProfileOptions()
    options.python_tracer_level = 0  # each call in Python would cost more than many an operation
    jax.profiler.start_trace(directory, create_perfetto_trace=True, profiler_options=options)
    try:
        yield
    finally:
        jax.profiler.stop_trace()
