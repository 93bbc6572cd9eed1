"""Times quantization beside a copy of as many bytes, in one process.

    ./bazelw run //kernels/quantize:quantize_bench -- --format int8

Each row is a function of torch_op on a gradient of `--mib`; where that fits into a cache, it is the
cache's speed that counts. GiB/s count what it has to read and to write once: values, residuals and
payloads. The peer is torch's `copy_` of half as many bytes, which reads and writes as many in all,
on as many threads. The runs of all rows and their copies alternate, so that a busy machine slows
all alike, and each is run before it is timed, so that as much of its memory is in a cache as fits.
Each cell is the median over the repetitions, with half the distance between the quartiles. The last
column is the copy's median time over ours: 1 is the speed of memory.
"""

import os

from base.interrupts import NOTHING_WRITTEN, exit_when_interrupted, hear_signals_in_imports

if __name__ == "__main__":
    hear_signals_in_imports(NOTHING_WRITTEN)

from base.options import Parser, count_from_two, positive_int
from kernels import benchmark_device
from kernels.quantize import contract

# Of memory for each byte of the gradient: itself, a residual, the payloads and what is copied.
BYTES_A_BYTE = 6


def main() -> None:
    """Prints one table."""
    parser = Parser(__doc__)
    cores = len(os.sched_getaffinity(0))
    add = parser.add_argument
    add("--format", default="int8", choices=contract.FORMAT_NAMES)
    add("--rounding", default="nearest", choices=contract.ROUNDINGS)
    add("--block-size", type=positive_int, default=256, choices=contract.BLOCK_SIZES, metavar="N")
    add("--device", default="cpu", choices=["cpu", "cuda"])
    add("--threads", type=positive_int, default=cores)
    add("--mib", type=positive_int, default=64, help="of the gradient in float32")
    add("--repeat", type=count_from_two, default=15, help="timed runs of each step")
    args = parser.parse_args()
    if args.threads > cores:
        parser.error(f"--threads {args.threads}: this process may use {cores} cores")
    needed = args.mib * BYTES_A_BYTE
    present = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") // 2**20
    if needed > present:
        parser.error(f"--mib {args.mib}: takes {needed} MiB of memory, and there are {present}")
    benchmark_device.require(parser, args.device)
    from kernels.quantize.quantize_bench_steps import print_table

    print_table(args)


if __name__ == "__main__":
    with exit_when_interrupted(NOTHING_WRITTEN):
        main()
