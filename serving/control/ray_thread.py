"""The one thread in which a gateway speaks with Ray, whose calls block."""

import asyncio
import threading
from collections.abc import Callable
from concurrent.futures import Future
from queue import SimpleQueue
from typing import ParamSpec, TypeVar

P = ParamSpec("P")
R = TypeVar("R")


class RayThread:
    """Calls functions one at a time, in the order in which they came.

    It must live as long as a Ray that it has started: the kernel stops Ray's processes when the
    thread that started them ends. It is a daemon, unlike those of concurrent.futures, since a call
    to a Ray that is gone may not come back before a minute, and a process must end in spite of it.
    """

    def __init__(self) -> None:
        self._calls: SimpleQueue[Callable[[], None] | None] = SimpleQueue()
        threading.Thread(target=self._run, name="ray", daemon=True).start()

    async def call(self, function: Callable[P, R], /, *args: P.args, **kwargs: P.kwargs) -> R:
        """Calls a function in the thread and waits for what it returns or raises.

        Cancelled before its turn, it is not called. What runs is not interrupted.
        """
        future: Future[R] = Future()

        def run() -> None:
            if not future.set_running_or_notify_cancel():
                return
            try:
                result = function(*args, **kwargs)
            except BaseException as error:  # it is whoever called who is to know it
                future.set_exception(error)
            else:
                future.set_result(result)

        self._calls.put(run)
        return await asyncio.wrap_future(future)

    def end(self) -> None:
        """Ends the thread after the calls that came before."""
        self._calls.put(None)

    def _run(self) -> None:
        while (call := self._calls.get()) is not None:
            call()
