"""PyTorch's calls work on the threads that PyTorch has, and on others where those are not."""

import pytest

from kernels import native_process

# Digests a payload that several tasks write; `count` tells how many threads the process has.
_PROGRAM = """
import hashlib, os
import torch
from kernels.quantize import _native, contract, torch_op

values = torch.linspace(-1, 1, 1 << 20)
codec = contract.codec("int8")
def run():
    return hashlib.sha256(torch_op.quantize(values, codec).numpy().tobytes()).hexdigest()
def count():
    return len(os.listdir("/proc/self/task"))
torch.set_num_threads(2)
values.add(1.0)  # PyTorch's threads are there from now on
"""

_SHARES = """
before = count()
run()
assert count() == before, (before, count())
"""

# Of a thread that is not known to be PyTorch's.
_HAS_ITS_OWN = """
import numpy as np
payload = np.empty(codec.payload_bytes(values.numel()), np.uint8)
layout = (values.numel(), 1, values.numel())
before = count()
addresses = [0, values.data_ptr(), 0, 0, payload.ctypes.data]
_native.quantize_cpu("float32", layout, codec, 1.0, addresses)
assert count() == before + 1, (before, count())
"""

_FORKED = """
expected = run()
child = os.fork()
if child == 0:
    os._exit(0 if run() == expected else 1)
assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
"""


@pytest.mark.parametrize("test", [_SHARES, _HAS_ITS_OWN, _FORKED])
def test_threads(test: str) -> None:
    done = native_process.python(_PROGRAM + test, HPC_NUM_THREADS="2")
    assert done.returncode == 0, done.stderr
