"""What bzip2 makes of the text that byte models are measured on: the figure that they have to beat.

./bazelw run //data/sources:compressed_text -- --seq-len 256
"""

import argparse
import bz2
import hashlib
import math

import numpy as np

from data.sources.stdlib_text import StdlibTextOptions, held_out_text


def bz2_bits_per_byte(text: np.ndarray) -> float:
    """Returns bits in which `bz2 -9` holds a byte of `text`, `[num_bytes]` uint8, on average."""
    return 8 * len(bz2.compress(text.tobytes(), compresslevel=9)) / len(text)


def report(options: StdlibTextOptions) -> str:
    """Says what the held-out text is, and what bzip2 makes of it."""
    text = held_out_text(options)
    bits, digest = bz2_bits_per_byte(text), hashlib.sha256(text.tobytes()).hexdigest()
    return (
        f"held-out text: {len(text):,} bytes, SHA-256 {digest}\n"
        f"bz2 -9: {bits:.4f} bits per byte, which are {bits * math.log(2):.4f} nats"
    )


def main() -> None:
    """Prints the report."""
    parser = argparse.ArgumentParser(description="The held-out text in bzip2.")
    parser.add_argument("--seq-len", type=int, default=256)
    parser.add_argument("--max-bytes", type=int)
    parser.add_argument("--max-held-out-bytes", type=int)
    print(report(StdlibTextOptions.model_validate(vars(parser.parse_args()))))


if __name__ == "__main__":
    main()
