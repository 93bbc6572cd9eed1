"""What this room adds to a bare gRPC server: requests a second, and processor time a request.

    ./bazelw run //serving/protocols/over_grpc:server_bench

Both servers answer the same method of the same protocol with the same answer, which is there at
once: the one is the generated servicer over grpc.aio, the other the server of this room over an
engine that does nothing. Each is a process of its own. They are asked in turns by callers that
send their next request when the last is answered, so that a busy machine slows both alike; its
processor time is counted by the kernel, for all threads. Each figure is the median over blocks.
"""

import asyncio
import multiprocessing
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from multiprocessing.connection import Connection
from pathlib import Path
from typing import NamedTuple

from base.interrupts import exit_when_interrupted, hear_signals_in_imports

if __name__ == "__main__":
    hear_signals_in_imports("interrupted")

import grpc
import numpy as np
import uvloop
from inference import grpc_service_pb2 as oip
from inference import grpc_service_pb2_grpc as oip_grpc

from base.options import Parser, positive_int
from serving.core.model import ServedModel
from serving.core.request import Answer, Call, Inputs
from serving.core.signature import TensorSpec
from serving.protocols.over_grpc.options import GrpcOptions
from serving.protocols.over_grpc.server import GrpcServer

METHOD = "/inference.GRPCInferenceService/ModelInfer"
LOGITS = np.arange(10, dtype=np.float32)[np.newaxis]
MODEL = ServedModel(
    name="digits",
    version="1.0.0",
    platform="none",
    directory=Path("unused"),
    digest="unused",
    inputs=(TensorSpec("image", "FP32", (-1, 8, 8, 1)),),
    outputs=(TensorSpec("logits", "FP32", (-1, 10)),),
)
CALLERS = (1, 32)


class InstantEngine:
    """As the engine, and does nothing."""

    def subscribe(self, changed: Callable[[], None]) -> Callable[[], None]:
        """Nothing ever changes."""
        return lambda: None

    async def infer(self, call: Call, decode: Callable[[ServedModel], Inputs]) -> Answer:
        """Reads the request, and answers always the same."""
        decode(MODEL)
        return Answer(MODEL.name, MODEL.version, {"logits": LOGITS})


class BareServicer(oip_grpc.GRPCInferenceServiceServicer):
    """What everybody writes first."""

    async def ModelInfer(  # noqa: N802
        self, request: oip.ModelInferRequest, context: grpc.aio.ServicerContext
    ) -> oip.ModelInferResponse:
        """Reads the request unchecked, and answers always the same."""
        shape = tuple(request.inputs[0].shape)
        np.frombuffer(request.raw_input_contents[0], np.float32).reshape(shape)
        response = oip.ModelInferResponse(
            model_name=MODEL.name, model_version=MODEL.version, id=request.id
        )
        response.outputs.add(name="logits", datatype="FP32", shape=LOGITS.shape)
        response.raw_output_contents.append(LOGITS.tobytes())
        return response


async def serve_bare(pipe: Connection) -> None:
    """Serves for ever; tells its address."""
    server = grpc.aio.server()
    oip_grpc.add_GRPCInferenceServiceServicer_to_server(BareServicer(), server)
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    pipe.send(f"127.0.0.1:{port}")
    await server.wait_for_termination()


async def serve_ours(pipe: Connection) -> None:
    """Serves for ever; tells its address."""
    server = GrpcServer(InstantEngine(), GrpcOptions())  # type: ignore[arg-type]
    pipe.send(await server.listen("127.0.0.1", 0))
    await asyncio.Event().wait()


def run_bare(pipe: Connection) -> None:
    """The process of the bare server."""
    uvloop.run(serve_bare(pipe))


def run_ours(pipe: Connection) -> None:
    """The process of ours."""
    uvloop.run(serve_ours(pipe))


class Block(NamedTuple):
    """Requests that one server answered.

    Attributes:
        rate: Requests a second.
        processor_s: Processor time a request.
    """

    rate: float
    processor_s: float


def processor_time_s(pid: int) -> float:
    """Processor time of all threads of a process so far."""
    threads = Path(f"/proc/{pid}/task").iterdir()
    return sum(int((t / "schedstat").read_text().split()[0]) for t in threads) / 1e9


async def measure(address: str, pid: int, callers: int, requests: int) -> Block:
    """Has one server answer a block of requests."""
    request = oip.ModelInferRequest(model_name=MODEL.name, raw_input_contents=[bytes(256)])
    request.inputs.add(name="image", datatype="FP32", shape=[1, 8, 8, 1])
    data = request.SerializeToString()
    async with grpc.aio.insecure_channel(address, [("grpc.enable_http_proxy", 0)]) as channel:
        infer = channel.unary_unary(METHOD)

        async def ask(times: int) -> None:
            for _ in range(times):
                await infer(data)

        await ask(50)
        before, start = processor_time_s(pid), time.perf_counter()
        await asyncio.gather(*[ask(requests // callers) for _ in range(callers)])
        seconds = time.perf_counter() - start
        answered = requests // callers * callers
        return Block(answered / seconds, (processor_time_s(pid) - before) / answered)


@contextmanager
def processes() -> Iterator[dict[str, tuple[str, int]]]:
    """Both servers by name: address and process."""
    context = multiprocessing.get_context("spawn")
    with ExitStack() as stack:
        servers = {}
        for name, run in {"bare grpc.aio": run_bare, "this room": run_ours}.items():
            ours, theirs = context.Pipe()
            process = context.Process(target=run, args=(theirs,), daemon=True)
            process.start()
            stack.callback(process.kill)
            servers[name] = (ours.recv(), process.pid or 0)
        yield servers


def main() -> None:
    """Prints one table."""
    parser = Parser(__doc__)
    parser.add_argument("--blocks", type=positive_int, default=15, help="of each server and load")
    parser.add_argument("--requests", type=positive_int, default=3000, help="in a block")
    args = parser.parse_args()
    with processes() as servers:
        print(f"{'server':14} {'callers':>7} {'requests/s':>10} {'CPU us/request':>14}")
        for callers in CALLERS:
            blocks: dict[str, list[Block]] = {name: [] for name in servers}
            for _ in range(args.blocks):
                for name, (address, pid) in servers.items():
                    block = measure(address, pid, callers, args.requests)
                    blocks[name].append(uvloop.run(block))
            for name, measured in blocks.items():
                rate, processor_s = np.median(measured, axis=0)
                print(f"{name:14} {callers:7} {rate:10.0f} {processor_s * 1e6:14.1f}")


if __name__ == "__main__":
    with exit_when_interrupted("interrupted"):
        main()
