"""DeepSpeed's operations for files on fast disks, compiled with this program."""

from importlib.machinery import ExtensionFileLoader
from importlib.util import find_spec, module_from_spec, spec_from_file_location
from types import ModuleType

from deepspeed.ops.op_builder.builder import OpBuilder


def use_compiled_operations() -> None:
    """Has DeepSpeed use them; it would compile its own, into the home directory, when needed."""
    for name in ("pin_memory", "async_io"):  # the second looks for what the first has
        if name not in OpBuilder._loaded_ops:
            OpBuilder._loaded_ops[name] = _load(name)


def _load(name: str) -> ModuleType:
    """Returns one of the modules of `deepspeed_ops.so`."""
    library = find_spec(f"{__package__}.deepspeed_ops")
    assert library is not None and library.origin is not None  # Bazel has built it
    loader = ExtensionFileLoader(name, library.origin)
    spec = spec_from_file_location(name, library.origin, loader=loader)
    assert spec is not None  # which is None only of files of unknown kinds
    module = module_from_spec(spec)
    loader.exec_module(module)
    return module
