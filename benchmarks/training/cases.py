"""Which loops are timed, and for how long."""

from typing import NamedTuple

from benchmarks.networks.cases import BYTES, CNN

LOOP, SAVING, DETERMINISTIC = "our loop", "our loop, saving", "our loop, deterministic"
PLAIN, MAKING = "plain loop", "plain loop, making its batches"
DATA_TABLE = "data"

PRESETS = ("bytes", "digits", "mixture", "mnist_cnn", "mnist_mlp", "recall", "waves")

# Of which to time what determinism costs: it has convolutions, of which there are the most ways.
DETERMINISTIC_NETWORK = CNN

# Steps from one checkpoint to the next, by default, and for those who save often.
DEFAULT_INTERVAL, SHORT_INTERVAL = 1000, 100


class Length(NamedTuple):
    """How much is timed.

    Attributes:
        chunk: Steps that a loop makes before it is the other one's turn.
        long_chunk: Likewise, of the network whose steps take ten times as long.
        num_chunks: Of each loop.
        data_s: For the steps of one preset.
    """

    chunk: int
    long_chunk: int
    num_chunks: int
    data_s: float

    def chunk_of(self, network: str) -> int:
        """Returns the steps in a chunk of a network."""
        return self.long_chunk if network == BYTES else self.chunk


DEFAULT = Length(chunk=50, long_chunk=4, num_chunks=16, data_s=5.0)
QUICK = Length(chunk=10, long_chunk=2, num_chunks=5, data_s=1.0)
