"""Processes that do something to a store at the same moment."""

import multiprocessing
import os
import traceback
from collections.abc import Callable, Sequence
from multiprocessing.connection import Connection
from typing import TypeVar

Result = TypeVar("Result")

_CONTEXT = multiprocessing.get_context("fork")


def at_once(
    tasks: Sequence[Callable[[], Result]], meanwhile: Callable[[], object] = lambda: None
) -> list[Result]:
    """Runs each task in a process of its own, forked off here, and lets all of them begin at once.

    Args:
        tasks: What to do; each opens its own store.
        meanwhile: Called again and again until all tasks are done, and once more.

    Returns:
        What each task returned.

    Raises:
        AssertionError: One raised something.
    """
    begin = _CONTEXT.Barrier(len(tasks))
    pipes = []
    processes = []
    for task in tasks:
        here, there = _CONTEXT.Pipe(duplex=False)
        process = _CONTEXT.Process(target=_run, args=(task, begin, there))
        process.start()
        there.close()
        pipes.append(here)
        processes.append(process)
    outcomes = []
    for pipe in pipes:
        while not pipe.poll(0.01):
            meanwhile()
        outcomes.append(pipe.recv())
    for process in processes:
        process.join()
    meanwhile()
    for error, _ in outcomes:
        assert error is None, error
    return [result for _, result in outcomes]


def _run(
    task: Callable[[], Result], begin: "multiprocessing.synchronize.Barrier", pipe: Connection
) -> None:
    begin.wait()
    try:
        pipe.send((None, task()))
    except BaseException:
        pipe.send((traceback.format_exc(), None))
    finally:
        pipe.close()
        # Nothing of the test's own, such as its fixtures, is to be tidied up here.
        os._exit(0)
