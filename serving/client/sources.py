"""The requests of a stream, taken from the caller's iterator by gRPC.

gRPC logs an exception of the iterator and ends the call as CANCELLED or UNKNOWN, by which the
caller would not know its own error again. So here the requests just end, and the client raises what
it was when the answers to those before it have been read.
"""

from collections.abc import AsyncIterable, AsyncIterator, Iterable, Iterator


class Source:
    """An iterator for a thread of gRPC's.

    Attributes:
        error: what the caller's iterator raised, if it did.
    """

    def __init__(self, requests: Iterable[bytes]) -> None:
        self._requests = requests
        self.error: Exception | None = None

    def __iter__(self) -> Iterator[bytes]:
        try:
            yield from self._requests
        except Exception as error:
            self.error = error


class AsyncSource:
    """An asynchronous iterator over either kind of iterable.

    Attributes:
        error: what the caller's iterator raised, if it did.
    """

    def __init__(self, requests: Iterable[bytes] | AsyncIterable[bytes]) -> None:
        self._requests = requests
        self.error: Exception | None = None

    async def __aiter__(self) -> AsyncIterator[bytes]:
        try:
            if isinstance(self._requests, AsyncIterable):
                async for request in self._requests:
                    yield request
            else:
                for request in self._requests:
                    yield request
        except Exception as error:
            self.error = error
