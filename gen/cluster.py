# SPDX-License-Identifier: Apache-2.0
"""One function on many tasks, by the workers of a Dask cluster; what all tasks share is sent to each of them once."""

import pickle
import time
import uuid
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from itertools import islice
from typing import Any, TypeVar

from firmware_gen.architectures.registry import load_architecture
from hls.errors import HeepgenError

S = TypeVar("S")
T = TypeVar("T")
R = TypeVar("R")

AHEAD = 2
"""Tasks of each thread of a worker that are sent before they begin."""

TRIES, PAUSE = 5, 1.0
"""How often workers are told what tasks share, and the seconds between."""

EXTRA = "pip install 'heepgen[cluster]'"


@contextmanager
def connected(address: str) -> Iterator[Any]:
    """The client of a Dask scheduler. Raises `HeepgenError` where Dask is not installed, where nothing answers at the
    address, and where there are no workers."""
    try:
        import distributed
    except ImportError:
        raise HeepgenError(f"--scheduler: Dask is not installed; {EXTRA}, here and on every worker.") from None
    try:
        connect: Any = distributed.Client
        client: Any = connect(address, timeout="10s", set_as_default=False)
    except (OSError, ValueError, TimeoutError) as error:
        why = str(error).rstrip(".") or "no answer"
        raise HeepgenError(f"--scheduler {address}: {why}; start one by dask scheduler.") from None
    with client:
        if not client.nthreads():
            raise HeepgenError(f"--scheduler {address}: it has no workers; start some by dask worker {address}.")
        yield client


def spread(
    client: Any, function: Callable[[S, T], R], tasks: Iterable[T], shared: S, architectures: Sequence[str] = ()
) -> Iterator[R]:
    """`function(shared, task)` of every task, as they are done, those of a worker that dies by another one.

    The function is one of a module; its arguments can be pickled. Tasks are taken from `tasks` shortly before they
    begin. architectures: paths of those that `shared` is about, which workers load from there. What a task raises is
    raised here; `HeepgenError` where workers die of one.
    """
    import cloudpickle  # Dask's: of read-only mappings, which programs have, pickle knows nothing
    import distributed

    name = f"heepgen-{uuid.uuid4().hex}"
    _register(client, _plugin(name, architectures, cloudpickle.dumps(shared)), name)
    room = AHEAD * max(sum(client.nthreads().values()), 1)
    waiting = iter(tasks)

    def send(count: int) -> list[Any]:
        return [client.submit(_perform, function, name, task, pure=False) for task in islice(waiting, count)]

    as_completed: Any = distributed.as_completed
    running: Any = as_completed(send(room), loop=client.loop, with_results=True)
    try:
        for future, result in running:
            future.release()
            running.update(send(1))
            yield result
    except distributed.KilledWorker:
        raise HeepgenError(
            "--scheduler: several workers died of one task; there may be too little memory: give them more, or start "
            "fewer."
        ) from None
    finally:
        client.cancel(list(running.futures))
        with suppress(OSError):  # a worker that has just died keeps nothing
            client.unregister_worker_plugin(name)


def _register(client: Any, plugin: Any, name: str) -> None:
    """Tell all workers; once more where one of them has just died, which the scheduler learns a little later."""
    for _ in range(TRIES - 1):
        try:
            client.register_plugin(plugin, name=name)
            return
        except OSError:
            time.sleep(PAUSE)
    client.register_plugin(plugin, name=name)


_shared: dict[str, Any] = {}
"""Of a worker: what tasks share, by name."""


def _plugin(name: str, architectures: Sequence[str], packed: bytes) -> Any:
    import distributed

    class Share(distributed.WorkerPlugin):
        """Tells every worker, also those that come later."""

        def setup(self, worker: Any) -> None:
            _keep(name, architectures, packed)

        def teardown(self, worker: Any) -> None:
            _forget(name)

    return Share()


def _keep(name: str, architectures: Sequence[str], packed: bytes) -> None:
    for path in architectures:
        load_architecture(path)
    _shared[name] = pickle.loads(packed)


def _forget(name: str) -> None:
    _shared.pop(name, None)


def _perform(function: Callable[[Any, Any], Any], name: str, task: Any) -> Any:
    return function(_shared[name], task)
