"""A thread that computes, so that the event loop of whoever asks stays free."""

import threading
from collections import OrderedDict
from collections.abc import Callable
from concurrent.futures import Future

import numpy as np


class Worker:
    """Computes batches one at a time, in the order in which they came.

    concurrent.futures.ThreadPoolExecutor would keep a batch that was cancelled until its turn
    comes: clients that give up and try again could fill the memory behind one slow computation.

    Args:
        compute: called in the worker's thread and in no other.
    """

    def __init__(self, compute: Callable[[np.ndarray], np.ndarray]) -> None:
        self._compute = compute
        self._waiting: OrderedDict[Future[np.ndarray], np.ndarray] = OrderedDict()
        self._changed = threading.Condition()
        # A daemon, since a process that ends need not wait for an answer that nobody reads.
        threading.Thread(target=self._work, name="worker", daemon=True).start()

    def submit(self, batch: np.ndarray) -> Future[np.ndarray]:
        """Queues a batch.

        Returns:
            Its predictions, or what the computation raised. Cancelled before its turn, the batch is
            let go at once and never computed; a computation that runs cannot be cancelled.
        """
        future: Future[np.ndarray] = Future()
        with self._changed:
            self._waiting[future] = batch
            self._changed.notify()
        future.add_done_callback(self._forget)
        return future

    def _forget(self, future: Future[np.ndarray]) -> None:
        with self._changed:
            self._waiting.pop(future, None)

    def _work(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._waiting)
                future, batch = self._waiting.popitem(last=False)
            if future.set_running_or_notify_cancel():
                _settle(future, self._compute, batch)


def _settle(
    future: Future[np.ndarray], compute: Callable[[np.ndarray], np.ndarray], batch: np.ndarray
) -> None:
    try:
        predictions = compute(batch)
    except BaseException as error:  # whatever it is, it is the caller's, and the thread goes on
        future.set_exception(error)
    else:
        future.set_result(predictions)
