"""Calls from their first byte to their last: how long they may arrive, and how they end in a drain.

gRPC keeps a call whose request never comes for ever, together with what did come, and has no limit
for it. Here a call that is not there at once is slow: only so many may be slow, and none for
longer than a request may take. So many small requests cannot be held up by slow ones, and what
is half received is bounded by `max_slow` of the largest requests.

It keeps an answer that nobody reads for ever, too. A client that does not read has so long for it
as the request had to come, and then loses its connection, since gRPC can end no such call.

In a drain calls are taken or refused, and those that were taken are waited for.
"""

import asyncio
from collections.abc import Callable, Set
from contextlib import suppress
from itertools import takewhile

import grpc

from serving.core.errors import Kind, ServingError, draining, invalid
from serving.protocols.ending import quiet
from serving.protocols.over_grpc.refusals import abort

# How often slow calls are looked for.
_SWEEP_S = 0.1

# A call is slow that was not there in so many sweeps. Sweeps and not seconds, since a loop that was
# held up for a second has not read what is there.
_PROMPT_SWEEPS = 3

_RETRY_AFTER_S = 1.0


class Calls:
    """All calls of a server. It is used from one event loop.

    Args:
        max_slow: Calls that arrive slowly, at once.
        receive_s: How long one may take to arrive.
        read_s: How long a client may take to read an answer.
        hang_up: Ends the connections of clients, of which it gets the addresses.
    """

    def __init__(
        self,
        max_slow: int,
        receive_s: float,
        read_s: float,
        hang_up: Callable[[Set[str]], None],
    ) -> None:
        self._max_slow = max_slow
        self._receive_s = receive_s
        self._read_s = read_s
        self._hang_up = hang_up
        self._sweep = 0
        # In the order in which they began, with the sweep at which they did.
        self._receiving: dict[grpc.aio.ServicerContext, int] = {}
        self._answering: dict[grpc.aio.ServicerContext, int] = {}
        self._slow: set[grpc.aio.ServicerContext] = set()
        self._arrived = 0
        self._running = 0
        self._when_none: asyncio.Future[None] | None = None
        self._refusing = False
        self._reading: set[asyncio.Timeout] = set()
        self._aborting: set[asyncio.Task[None]] = set()
        self._timer: asyncio.TimerHandle | None = None

    def start(self) -> None:
        """Looks for slow calls from now on."""
        self._timer = asyncio.get_running_loop().call_later(_SWEEP_S, self._on_sweep)

    def stop(self) -> None:
        """Looks for them no more."""
        if self._timer is not None:
            self._timer.cancel()

    async def receive(self, context: grpc.aio.ServicerContext) -> bytes:
        """The request of a call with one request.

        Raises:
            ServingError: INVALID: there is none; UNAVAILABLE: the server is shutting down.
            AbortError: The call was too slow, and is over.
        """
        self._arrived += 1
        if self._refusing:
            raise draining()
        self._receiving[context] = self._sweep
        try:
            data = await context.read()
        finally:
            self._receiving.pop(context, None)
            if self._slow:
                self._slow.discard(context)
        self._running += 1
        context.add_done_callback(self._end)
        if data is grpc.aio.EOF:
            raise invalid("the call has no request; expected one message")
        return data

    def open_stream(self, context: grpc.aio.ServicerContext) -> None:
        """Counts a call with many requests, which it reads itself.

        Raises:
            ServingError: UNAVAILABLE: the server is shutting down.
        """
        self._arrived += 1
        if self._refusing:
            raise draining()
        self._running += 1
        context.add_done_callback(self._end)

    async def next_request(self, context: grpc.aio.ServicerContext) -> bytes | None:
        """The next request of a stream, however long it takes; None: that was the last one.

        Raises:
            ServingError: UNAVAILABLE: the server is shutting down.
        """
        if self._refusing:
            raise draining()
        until_refused = asyncio.timeout(None)
        self._reading.add(until_refused)
        try:
            async with until_refused:
                data = await context.read()
        except TimeoutError:
            raise draining() from None
        finally:
            self._reading.discard(until_refused)
        return None if data is grpc.aio.EOF else data

    async def send(self, context: grpc.aio.ServicerContext, answer: bytes) -> None:
        """Sends an answer of a stream. If its client does not read it, the call is cancelled."""
        self.answering(context)
        try:
            await context.write(answer)
        except grpc.aio.InternalError:  # the client is gone, of which gRPC would log a traceback
            raise asyncio.CancelledError from None
        finally:
            self._answering.pop(context, None)

    def answering(self, context: grpc.aio.ServicerContext) -> None:
        """From now on a call that was counted sends its last answer, and its client reads it."""
        self._answering.pop(context, None)
        self._answering[context] = self._sweep

    def refuse(self) -> None:
        """Refuses what is not there in full, and what still comes."""
        self._refusing = True
        for context in list(self._receiving):
            self._abort(context, draining())
        for until_refused in self._reading:
            until_refused.reschedule(0.0)

    async def none(self) -> None:
        """Returns once no call is running. Those that are refused when they come do not run."""
        await asyncio.gather(*self._aborting)
        if self._running:
            self._when_none = asyncio.get_running_loop().create_future()
            await self._when_none

    async def quiet(self) -> None:
        """Returns once no call has come for a moment, or a second has passed."""
        await quiet(lambda: self._arrived)

    def _end(self, context: grpc.aio.ServicerContext) -> None:
        self._running -= 1
        self._answering.pop(context, None)
        if not self._running and self._when_none is not None and not self._when_none.done():
            self._when_none.set_result(None)

    def _on_sweep(self) -> None:
        self.start()
        self._sweep += 1
        self._end_slow_calls()
        self._end_unread_answers()

    def _end_slow_calls(self) -> None:
        longest = self._receive_s / _SWEEP_S
        oldest_first = self._receiving.items()
        late = takewhile(lambda call: self._sweep - call[1] >= _PROMPT_SWEEPS, oldest_first)
        for context, began in list(late):
            if self._sweep - began > longest:
                self._abort(context, _too_slow(self._receive_s))
            elif context not in self._slow:
                if len(self._slow) < self._max_slow:
                    self._slow.add(context)
                else:
                    self._abort(context, _too_many_slow(self._max_slow))

    def _end_unread_answers(self) -> None:
        longest = self._read_s / _SWEEP_S
        oldest_first = self._answering.items()
        late = list(takewhile(lambda call: self._sweep - call[1] > longest, oldest_first))
        if late:
            self._hang_up({context.peer() for context, _ in late})
        for context, _ in late:
            del self._answering[context]

    def _abort(self, context: grpc.aio.ServicerContext, error: ServingError) -> None:
        """Ends a call while another task waits for its request, which then gets an AbortError."""
        task = asyncio.create_task(self._abort_unless_there(context, error))
        self._aborting.add(task)
        task.add_done_callback(self._aborting.discard)

    async def _abort_unless_there(
        self, context: grpc.aio.ServicerContext, error: ServingError
    ) -> None:
        if self._receiving.pop(context, None) is not None:
            with suppress(grpc.aio.BaseError):  # AbortError, or it has ended by itself
                await abort(context, error)


def _too_slow(receive_s: float) -> ServingError:
    return ServingError(
        Kind.DEADLINE, f"the request did not arrive within {receive_s:g} s", reason="slow_request"
    )


def _too_many_slow(max_slow: int) -> ServingError:
    return ServingError(
        Kind.OVERLOADED,
        f"{max_slow} requests are arriving slowly; try again later",
        reason="slow_request",
        retry_after_s=_RETRY_AFTER_S,
    )
