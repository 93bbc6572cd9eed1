"""The thread in which Ray is asked."""

import asyncio
import subprocess
import sys
import threading

import pytest

from serving.control.ray_thread import RayThread


def test_calls_are_made_in_order_in_one_thread_and_the_loop_goes_on() -> None:
    order: list[tuple[int, int]] = []
    hold = threading.Event()

    def note(number: int) -> int:
        if number == 0:
            assert hold.wait(60)
        order.append((number, threading.get_ident()))
        return -number

    async def test() -> list[int]:
        thread = RayThread()
        calls = [asyncio.create_task(thread.call(note, number)) for number in range(3)]
        await asyncio.sleep(0.01)
        assert order == []
        hold.set()
        results = await asyncio.gather(*calls)
        thread.end()
        return results

    assert asyncio.run(test()) == [0, -1, -2]
    assert [number for number, _ in order] == [0, 1, 2]
    (thread,) = {ident for _, ident in order}
    assert thread != threading.get_ident()


def test_what_is_raised_is_the_callers_and_what_is_cancelled_is_not_called() -> None:
    called: list[str] = []
    hold = threading.Event()

    def fail() -> None:
        assert hold.wait(60)
        raise KeyError("of the function")

    async def test() -> None:
        thread = RayThread()
        failing = asyncio.create_task(thread.call(fail))
        cancelled = asyncio.create_task(thread.call(called.append, "cancelled"))
        await asyncio.sleep(0.01)
        cancelled.cancel()
        await asyncio.wait([cancelled])
        hold.set()
        with pytest.raises(KeyError, match="of the function"):
            await failing
        await thread.call(called.append, "later")
        thread.end()

    asyncio.run(test())
    assert called == ["later"]


def test_a_process_ends_though_a_call_does_not_come_back() -> None:
    program = (
        "import asyncio, threading\n"
        "from serving.control.ray_thread import RayThread\n"
        "async def main():\n"
        "    task = asyncio.create_task(RayThread().call(threading.Event().wait))\n"
        "    await asyncio.sleep(0.01)\n"
        "    task.cancel()\n"
        "asyncio.run(main())\n"
    )
    subprocess.run([sys.executable, "-c", program], check=True, timeout=60)
