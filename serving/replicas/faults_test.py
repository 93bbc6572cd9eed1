"""The other side dies or hangs: who notices, when, and what becomes of jobs."""

import asyncio
import os
import secrets
import signal
import tempfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hpc.serving.v1 import transport_pb2 as wire

from serving.core.channel import Computed, ReplicaLostError
from serving.replicas.connecting import connect
from serving.replicas.errors import ConnectError
from serving.replicas.limits import DEFAULT
from serving.replicas.receiving import FrameReader
from serving.replicas.server import serve
from serving.testing.jobs import PATIENT, WAIT_S, Results, bytes_job, do
from serving.testing.local_replica import numpy_model, run, settled
from serving.testing.peers import gateway
from serving.testing.replica_process import SLEEP, replica_process

TOKEN = secrets.token_bytes(32)


@pytest.mark.parametrize("way", [0, 1])
def test_a_replica_that_is_killed_loses_every_job_once_and_at_once(way: int) -> None:
    async def test() -> None:
        lost: list[int] = []
        results: Results = []
        with replica_process(limits=PATIENT) as process:
            address = process.addresses[way]
            channel = await connect(
                address, process.token, lambda: lost.append(len(results)), limits=PATIENT
            )
            assert channel.pid == process.process.pid
            done = await run(channel, bytes_job(6))
            np.testing.assert_array_equal(done.outputs["y"], np.full((1, 100), 7))
            for _ in range(3):
                channel.submit(bytes_job(SLEEP), results.append)
            process.process.kill()
            await settled(lambda: bool(lost))
            assert [type(result) for result in results] == [ReplicaLostError] * 3
            assert lost == [3]  # told after all jobs, and once
            assert channel.in_flight == 0
            await asyncio.sleep(0.01)
            assert (len(results), len(lost)) == (3, 1)
            with pytest.raises(ConnectError):
                await connect(address, process.token, lambda: None)

    do(test)


def test_a_replica_that_hangs_is_noticed_and_serves_others_when_it_goes_on() -> None:
    async def test() -> None:
        lost: list[bool] = []
        results: Results = []
        with replica_process(limits=PATIENT) as process:
            address = process.addresses[0]
            channel = await connect(
                address,
                process.token,
                lambda: lost.append(True),
                limits=replace(DEFAULT, silence_s=1.5),
            )
            channel.submit(bytes_job(1), results.append)
            await settled(lambda: len(results) == 1)
            os.kill(channel.pid, signal.SIGSTOP)
            await settled(lambda: _stopped(channel.pid))
            channel.submit(bytes_job(1), results.append)
            await settled(lambda: bool(lost))
            assert [type(result) for result in results] == [Computed, ReplicaLostError]
            assert "nothing came for 1.5 s" in str(results[1])
            os.kill(channel.pid, signal.SIGCONT)
            again = await connect(address, process.token, lambda: None, limits=PATIENT)
            answer = await run(again, bytes_job(1))
            np.testing.assert_array_equal(answer.outputs["y"], np.full((1, 100), 2))
            again.close()

    do(test)


def _stopped(pid: int) -> bool:
    """Whether all threads of a process are, which a signal brings about in a moment."""
    stats = [path.read_text() for path in Path(f"/proc/{pid}/task").glob("*/stat")]
    return all(stat.rpartition(")")[2].split()[0] == "T" for stat in stats)


@pytest.mark.parametrize("busy", [False, True])
def test_signs_of_life_come_while_it_is_idle_and_while_it_computes(busy: bool) -> None:
    async def test() -> None:
        with replica_process(limits=PATIENT) as process:
            peer = await gateway(process.addresses[1], process.token, silence_ms=100)
            if busy:
                run_ = wire.Run(job=1, outputs=["y"], timeout_s=WAIT_S)
                run_.inputs.add(name="x", datatype="UINT8", shape=[1, 1])
                await peer.send_frame(wire.FRAME_KIND_RUN, run_, bytes([SLEEP]))
            reader, beats = FrameReader(2**20), 0
            while beats < 5:
                space = reader.space()
                count = await asyncio.get_running_loop().sock_recv_into(peer.sock, space)
                assert count
                kinds = [came.kind for came in reader.received(count)]
                assert set(kinds) <= {wire.FRAME_KIND_HEARTBEAT}
                beats += len(kinds)
            peer.close()

    do(test)


def test_a_gateway_that_hangs_is_let_go() -> None:
    limits = replace(DEFAULT, silence_s=0.2)

    async def test() -> None:
        with tempfile.TemporaryDirectory(dir="/tmp") as directory:
            running = serve(
                numpy_model(),
                name="r",
                unix_path=Path(directory) / "s",
                tcp_host=None,
                token=TOKEN,
                limits=limits,
            )
            silent = await gateway(running.addresses[0], TOKEN)
            assert await silent.ended()
            await settled(lambda: running.gateways == 0)
            silent.close()
            await asyncio.to_thread(running.stop, 0)

    do(test)
