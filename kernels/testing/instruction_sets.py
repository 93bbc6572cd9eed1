"""Suites that HPC_CPU_ISA runs on one instruction set of the CPU."""

from types import ModuleType

import pytest


def missing(native: ModuleType) -> str:
    """Returns what HPC_CPU_ISA asks for in vain on this CPU, as the native code says it, or ""."""
    try:
        native.cpu_isa()
    except ValueError as error:
        return str(error)
    return ""


def skip_where_missing(native: ModuleType) -> pytest.MarkDecorator:
    """Returns the mark of a module whose tests need what HPC_CPU_ISA asks for."""
    why = missing(native)
    return pytest.mark.skipif(bool(why), reason=why)
