"""Times running servers of the Open Inference Protocol side by side, all asked in turns.

    ./bazelw run //serving:gateway_bench -- --model digits 127.0.0.1:8001 127.0.0.1:8002

Each row is a server under one load: so many callers, each of which sends its next request when the
answer to the last is there, and so many examples in a request, of zeros. The servers are asked one
after the other, again and again, a block of requests at a time, so that a busy machine slows all
alike. The rate is the median over the blocks; the percentiles are of all requests.

Start the servers that are to be compared first, two commits or two frameworks for example.
"""

import asyncio
import time
from collections.abc import Sequence
from typing import NamedTuple

from base.interrupts import exit_when_interrupted, hear_signals_in_imports

if __name__ == "__main__":
    hear_signals_in_imports("interrupted")

import grpc
import numpy as np
from inference import grpc_service_pb2 as oip
from inference import grpc_service_pb2_grpc as oip_grpc

from base.options import Parser, positive_int
from serving.signature import TensorSpec, zeros

# Callers and examples in a request: a lone caller, a few, few with batches, and many.
LOADS = ((1, 1), (8, 1), (8, 16), (64, 1))

# Requests of one caller, for the servers and their connections to warm.
WARM_REQUESTS = 100


class Server(NamedTuple):
    """One of those that are compared."""

    address: str
    stub: oip_grpc.GRPCInferenceServiceStub
    model: str
    input: TensorSpec

    def request(self, batch_size: int) -> oip.ModelInferRequest:
        """Asks about so many zeros."""
        batch = zeros(self.input, batch_size)
        message = oip.ModelInferRequest(model_name=self.model, raw_input_contents=[batch.tobytes()])
        message.inputs.add(name=self.input.name, datatype=self.input.datatype, shape=batch.shape)
        return message


class Block(NamedTuple):
    """Requests that were sent under one load, one after the other by each caller."""

    seconds: float
    latencies_s: list[float]


def main() -> None:
    """Prints one table."""
    parser = Parser(__doc__)
    parser.add_argument("addresses", nargs="+", metavar="HOST:PORT")
    parser.add_argument("--model", required=True, help="name of the model, the same everywhere")
    parser.add_argument("--blocks", type=positive_int, default=25, help="of each server and load")
    parser.add_argument("--requests", type=positive_int, default=240, help="in a block")
    args = parser.parse_args()
    try:
        asyncio.run(_compare(args.addresses, args.model, args.blocks, args.requests))
    except grpc.aio.AioRpcError as error:
        parser.error(f"a server does not answer: {error.code().name}: {error.details()}")


async def _compare(addresses: Sequence[str], model: str, blocks: int, requests: int) -> None:
    servers = [await _connect(address, model) for address in addresses]
    for server in servers:
        await _measure(server, 1, 1, WARM_REQUESTS)
    print(
        f"{'server':21} {'callers':>7} {'batch':>5} {'requests/s':>10} {'p50 ms':>7} {'p99 ms':>7}"
    )
    for callers, batch_size in LOADS:
        measured: list[list[Block]] = [[] for _ in servers]
        for block in range(blocks):
            for number in range(len(servers)):
                turn = (block + number) % len(servers)  # whoever is first may find a colder machine
                measured[turn].append(await _measure(servers[turn], callers, batch_size, requests))
        for server, of_server in zip(servers, measured, strict=True):
            print(f"{server.address:21} {callers:7} {batch_size:5} {_summary(of_server)}")


async def _connect(address: str, model: str) -> Server:
    channel = grpc.aio.insecure_channel(address, [("grpc.enable_http_proxy", 0)])
    stub = oip_grpc.GRPCInferenceServiceStub(channel)
    metadata = await stub.ModelMetadata(oip.ModelMetadataRequest(name=model))
    (tensor,) = metadata.inputs
    return Server(
        address, stub, model, TensorSpec(tensor.name, tensor.datatype, tuple(tensor.shape))
    )


async def _measure(server: Server, callers: int, batch_size: int, requests: int) -> Block:
    request = server.request(batch_size)
    latencies_s: list[float] = []

    async def call() -> None:
        for _ in range(max(1, requests // callers)):
            start = time.perf_counter()
            await server.stub.ModelInfer(request)
            latencies_s.append(time.perf_counter() - start)

    start = time.perf_counter()
    await asyncio.gather(*(call() for _ in range(callers)))
    return Block(time.perf_counter() - start, latencies_s)


def _summary(blocks: Sequence[Block]) -> str:
    rate = np.median([len(block.latencies_s) / block.seconds for block in blocks])
    p50_s, p99_s = np.percentile(np.concatenate([block.latencies_s for block in blocks]), [50, 99])
    return f"{rate:10.0f} {p50_s * 1e3:7.2f} {p99_s * 1e3:7.2f}"


if __name__ == "__main__":
    with exit_when_interrupted("interrupted"):
        main()
