# SPDX-License-Identifier: Apache-2.0
"""Who judges: this process, processes of this machine, or workers of a Dask cluster."""

import multiprocessing
import os
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from typing import Any, Protocol

from gen.cluster import connected, spread
from gen.explore.judge import Task, perform
from gen.explore.store import Judgement
from gen.explore.subject import Subject, unpacked
from hls.errors import HeepgenError

AHEAD = 2
"""Tasks of each process that wait: few, since what is known later makes some of them needless."""

LOST = 3
"""Processes that may die over one task."""


class Workers(Protocol):
    """Whoever performs tasks of one subject."""

    def results(self, tasks: Iterable[Task]) -> Iterator[list[Judgement]]:
        """What every task gives, as they are done; tasks are asked for shortly before they begin."""


Perform = Callable[[Subject, Task], list[Judgement]]

_subject: Subject
_perform: Perform
"""Of this process, where it is one of several."""


def begin(packed: bytes, how: Perform = perform) -> None:
    """In a process that will perform tasks of a subject."""
    global _subject, _perform
    _subject, _perform = unpacked(packed), how


def work(task: Task) -> list[Judgement]:
    """In such a process."""
    return _perform(_subject, task)


class Here:
    """This process."""

    def __init__(self, subject: Subject, how: Perform = perform):
        self._subject, self._how = subject, how

    def results(self, tasks: Iterable[Task]) -> Iterator[list[Judgement]]:
        for task in tasks:
            yield self._how(self._subject, task)


class Processes:
    """So many of them on this machine, until it is closed. Tasks of one that dies are performed by others."""

    def __init__(self, subject: Subject, count: int, how: Perform = perform):
        self._packed, self._count, self._how = subject.packed, count, how
        self._pool = self._started()

    def _started(self) -> ProcessPoolExecutor:
        context = multiprocessing.get_context("spawn")
        pool = ProcessPoolExecutor(self._count, context, begin, (self._packed, self._how))
        for _ in range(self._count):
            pool.submit(os.getpid)  # they start while the first tasks are prepared
        return pool

    def close(self) -> None:
        self._pool.shutdown(wait=False, cancel_futures=True)

    def __enter__(self) -> "Processes":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def results(self, tasks: Iterable[Task]) -> Iterator[list[Judgement]]:
        waiting, again = iter(tasks), list[Task]()
        running: dict[Future[list[Judgement]], Task] = {}
        lost = 0
        while True:
            while len(running) < AHEAD * self._count and (task := again.pop() if again else next(waiting, None)):
                running[self._pool.submit(work, task)] = task
            if not running:
                return
            done, _ = wait(running, return_when=FIRST_COMPLETED)
            broken = False
            for future in done:
                task = running.pop(future)
                try:
                    yield future.result()
                except BrokenProcessPool:
                    broken = True
                    again.append(task)
            if broken:
                lost += 1
                if lost > LOST:
                    raise HeepgenError(
                        f"processes of --jobs {self._count} died {lost} times: there may be too little memory; "
                        "take fewer."
                    )
                again += running.values()
                running.clear()
                self.close()
                self._pool = self._started()


class Cluster:
    """Workers of a Dask cluster. Tasks of one that dies are performed by others."""

    def __init__(self, subject: Subject, client: Any, how: Perform = perform):
        self._subject, self._client, self._how = subject, client, how

    def results(self, tasks: Iterable[Task]) -> Iterator[list[Judgement]]:
        return spread(self._client, self._how, tasks, self._subject, self._subject.architectures)


@contextmanager
def workers(subject: Subject, jobs: int = 1, scheduler: str | None = None, how: Perform = perform) -> Iterator[Workers]:
    """`jobs` processes, or this one, or those of the Dask scheduler at an address, to perform tasks as `how` does.
    Raises `HeepgenError` where the scheduler does not answer, or Dask is not installed."""
    if scheduler is not None:
        with connected(scheduler) as client:
            yield Cluster(subject, client, how)
    elif jobs > 1:
        with Processes(subject, jobs, how) as processes:
            yield processes
    else:
        yield Here(subject, how)
