"""The attempts of one call, whoever waits between them: threads or asyncio."""

from collections.abc import Callable, Iterable
from typing import Any

from serving.client import calls
from serving.client.calls import ClientConfig, Method, Reply, Response
from serving.client.errors import InferenceError
from serving.client.retries import RetryBudget, wait_before_retry


class Attempts:
    """Counts the attempts of a call and decides whether there is another.

    Args:
        config: of the client.
        budget: of the client.
        timeout_s: that the call was given; None: the client's.
        now: seconds of a clock that never goes back.
        draw: uniform in [0, 1).
    """

    def __init__(
        self,
        config: ClientConfig,
        budget: RetryBudget,
        timeout_s: float | None,
        now: Callable[[], float],
        draw: Callable[[], float],
    ) -> None:
        self._config = config
        self._budget = budget
        self._now = now
        self._draw = draw
        self._deadline = now() + config.timeout_of(timeout_s)
        self._made = 1

    def remaining_s(self) -> float:
        """Seconds until the call's deadline, which the server is told as it is."""
        return self._deadline - self._now()

    def wait_after(self, error: Any) -> float:
        """Seconds to wait before the next attempt.

        Args:
            error: of the latest attempt, as gRPC raised it.

        Raises:
            InferenceError: there is no further attempt.
        """
        refusal = calls.refusal_of(error)
        wait_s = wait_before_retry(
            refusal,
            attempts=self._made,
            remaining_s=self.remaining_s(),
            policy=self._config.retry,
            budget=self._budget,
            draw=self._draw,
        )
        if wait_s is None:
            raise calls.final_error(self._config.address, refusal, self._made) from None
        self._made += 1
        return wait_s

    def failed(self, error: Any) -> InferenceError:
        """The error where there is no further attempt, whatever the reason."""
        return calls.final_error(self._config.address, calls.refusal_of(error), self._made)

    def closed(self) -> InferenceError:
        """The error where the client was closed before an answer came."""
        return calls.closed_error(self._config.address, self._made)

    def answered(
        self,
        method: Method[Response],
        content: bytes,
        trailing: Iterable[tuple[str, str | bytes]] | None,
    ) -> Reply[Response]:
        """Reads the answer of the latest attempt.

        Raises:
            InferenceError: with the code INTERNAL: it is no message of the protocol.
        """
        self._budget.answered()
        message = calls.parsed(method, content, self._config.address)
        return Reply(message, dict(trailing or ()), self._made)
