"""Times linear attention beside plain PyTorch and XLA, in one process.

    ./bazelw run //kernels/linear_attention:linear_attention_bench -- --dtype float32

Peers, in the same precision: the chunked form in plain torch and, under jit, in plain JAX (products
of whole chunks and a loop over the states, as one writes it without kernels), and the quadratic
formula in torch, where it fits. The runs of all of them alternate, so that a busy machine slows all
alike; each cell is the median over the repetitions, with half the distance between the quartiles.
GFLOP/s are ours through torch, for 2 * B * H * S * (Dk + Dv) * 64 / 2 + 4 * B * H * S * Dk * Dv
operations of the forward pass and 2.5 times as many of the backward pass.
"""

from base.interrupts import NOTHING_WRITTEN, exit_when_interrupted, hear_signals_in_imports

if __name__ == "__main__":
    hear_signals_in_imports(NOTHING_WRITTEN)

from base.options import Parser, count_from_two
from kernels import benchmark_device
from kernels.linear_attention.shapes import BENCHMARK_SIZES


def main() -> None:
    """Prints one table."""
    parser = Parser(__doc__)
    add = parser.add_argument
    add("--dtype", default="float32", choices=["float32", "bfloat16", "float16"])
    add("--device", default="cpu", choices=["cpu", "cuda"])
    add("--decay", action="store_true", help="with a decay for each head")
    add("--repeat", type=count_from_two, default=7, help="timed runs of each step")
    add("--sizes", nargs="+", choices=list(BENCHMARK_SIZES), default=list(BENCHMARK_SIZES))
    args = parser.parse_args()
    benchmark_device.require(parser, args.device)
    from kernels.linear_attention.linear_attention_bench_steps import print_table

    print_table(args)


if __name__ == "__main__":
    with exit_when_interrupted(NOTHING_WRITTEN):
        main()
