"""PyTorch's calls work on the threads that PyTorch has, and on others where those are not."""

from kernels.testing import native_process

# `run` digests a payload that several tasks write; `count` tells how many threads there are.
PROGRAM = """
import hashlib, os, threading
import numpy as np
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

before = count()
expected = run()
assert count() == before, ("shares PyTorch's threads", before, count())

def call():  # of a thread that is not known to be PyTorch's
    payload = np.empty(codec.payload_bytes(values.numel()), np.uint8)
    layout = (values.numel(), 1, values.numel())
    addresses = [0, values.data_ptr(), 0, 0, payload.ctypes.data]
    before = count()
    _native.quantize_cpu("float32", layout, codec, 1.0, addresses)
    grown.append(count() - before)
grown = []
thread = threading.Thread(target=call)
thread.start()
thread.join()
assert grown == [1], ("has a thread of its own", grown)

child = os.fork()
if child == 0:
    os._exit(0 if run() == expected else 1)
assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0, "a forked child does the same"
"""


def test_threads() -> None:
    done = native_process.python(PROGRAM, HPC_NUM_THREADS="2")
    assert done.returncode == 0, done.stderr
