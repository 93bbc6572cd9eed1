"""One rank of the compression benchmark: does what it reads from stdin, answers on stdout.

A request and its answer are one line of JSON each. All ranks get the same requests at the same
time; `ranks.py` is the other end.
"""

import argparse
import json
import os
import statistics
import sys
import time
import zlib
from collections.abc import Callable, Sequence
from datetime import timedelta
from typing import Any, TextIO

import torch
from torch import distributed

from benchmarks.compression.exchange import SHAPES, Exchange, make_gradients
from benchmarks.compression.link import Ring, sent_bytes
from benchmarks.compression.sides import WARM_UP_STEPS, register
from comm.wire import Wire

# Of rank 0; the addresses are nobody else's.
_RING_PORT = 29500
# A rank that hangs is a failure of the run, not something to wait for.
_TIMEOUT = timedelta(seconds=120)
_TRANSFER_S = 0.2
_TRANSFERS = 3

Answer = dict[str, Any]


class Worker:
    """What a rank keeps between requests: its gradients, the true averages and the sides."""

    def __init__(self, addresses: Sequence[str], interface: str, shapes: Sequence[Any]) -> None:
        self._rank = distributed.get_rank()
        self._ring = Ring(addresses, self._rank, _RING_PORT)
        self._interface = interface
        self._gradients = make_gradients(shapes, self._rank)
        self._averages = [_float64_average(gradient) for gradient in self._gradients]
        self._values = [torch.zeros_like(gradient) for gradient in self._gradients]
        self._sides: dict[str, tuple[Exchange, Wire | None]] = {}

    def link(self, gbit_per_s: float) -> Answer:
        """Measures what TCP reaches while every rank sends to the next and receives.

        Args:
          gbit_per_s: of the link, which says how much to send.
        """
        num_bytes = round(gbit_per_s * 1e9 / 8 * _TRANSFER_S)
        speeds = []
        for _ in range(1 + _TRANSFERS):
            distributed.barrier()
            speeds.append(8e-9 * num_bytes / self._ring.transfer(num_bytes))
        return {"gbit_per_s": statistics.median(speeds[1:])}

    def error(self, side: str, steps: int) -> Answer:
        """Makes a side and measures its error over some steps with the same gradients.

        vNMSE: the squared error over the squared averages. Of one step, the mean over the steps;
        and of the mean of all steps' results, which error feedback is for.
        """
        exchange = Exchange(self._values)
        wire = register(exchange.ddp, side)
        self._sides[side] = exchange, wire
        for _ in range(WARM_UP_STEPS):
            self._step(exchange)
        means = [torch.zeros_like(average) for average in self._averages]
        of_steps = []
        for _ in range(steps):
            self._step(exchange)
            results = exchange.results()
            if self._rank == 0:
                of_steps.append(self._vnmse(results))
                torch._foreach_add_(means, results, alpha=1 / steps)
        answer: Answer = {"num_bytes": exchange.num_bytes, "digest": _digest(exchange.results())}
        if self._rank == 0:
            answer |= {
                "vnmse": statistics.fmean(of_steps),
                "vnmse_of_mean": self._vnmse(means),
            }
        return answer

    def time(self, side: str) -> Answer:
        """Times one step of a side that `error` has made."""
        exchange, wire = self._sides[side]
        exchange.fill(self._gradients)
        distributed.barrier()
        counted = 0.0 if wire is None else wire.sent_bytes
        sent = sent_bytes(self._interface)
        start = time.perf_counter()
        exchange.step()
        seconds = time.perf_counter() - start
        # What is on its way is before the barrier's own few hundred bytes.
        distributed.barrier()
        answer = {"seconds": seconds, "sent_bytes": sent_bytes(self._interface) - sent}
        if wire is not None:
            answer["wire_bytes"] = wire.sent_bytes - counted
        return answer

    def _step(self, exchange: Exchange) -> None:
        exchange.fill(self._gradients)
        exchange.step()

    def _vnmse(self, results: Sequence[torch.Tensor]) -> float:
        error, norm = 0.0, 0.0
        for result, average in zip(results, self._averages, strict=True):
            error += float(torch.sum((result - average) ** 2))
            norm += float(torch.sum(average**2))
        return error / norm


def main(arguments: Sequence[str]) -> None:
    """Joins the other ranks and serves until stdin ends."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rank", type=int, required=True)
    parser.add_argument("--addresses", nargs="+", required=True)
    parser.add_argument("--meeting", required=True, help="a file through which the ranks meet")
    parser.add_argument("--interface", required=True)
    parser.add_argument("--shapes", type=json.loads, default=SHAPES)
    args = parser.parse_args(arguments)
    # gloo prints to stdout.
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    torch.set_num_threads(int(os.environ["OMP_NUM_THREADS"]))
    distributed.init_process_group(
        "gloo",
        init_method=f"file://{args.meeting}",
        rank=args.rank,
        world_size=len(args.addresses),
        timeout=_TIMEOUT,
    )
    worker = Worker(args.addresses, args.interface, args.shapes)
    _serve(worker, sys.stdin, answers)


def _serve(worker: Worker, requests: TextIO, answers: TextIO) -> None:
    served: dict[str, Callable[..., Answer]] = {
        "link": worker.link,
        "error": worker.error,
        "time": worker.time,
    }
    for line in requests:
        request = json.loads(line)
        answer = served[request.pop("do")](**request)
        print(json.dumps(answer), file=answers, flush=True)


def _float64_average(gradient: torch.Tensor) -> torch.Tensor:
    """The average over the ranks, summed in float64."""
    total = gradient.double()
    distributed.all_reduce(total)
    return (total / distributed.get_world_size()).float()


def _digest(results: Sequence[torch.Tensor]) -> int:
    digest = 0
    for result in results:
        digest = zlib.crc32(result.numpy().data, digest)
    return digest


if __name__ == "__main__":
    main(sys.argv[1:])
