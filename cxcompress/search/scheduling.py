"""Who does the work units of a sweep: this process, local processes, or a Dask cluster.

    with workers("local", count=2) as pool:                  # or "tcp://10.0.0.5:8786"
        results = folder.run_units(units, "Sweep", pool)

Units are handed out one at a time to whoever is free, so a slow worker holds up nothing but its
own unit; units of a worker that died are done again elsewhere; results are written by the process
that asked, once each. What many units need (a model, images) a unit's function opens through a
cache of its own process. Functions and arguments travel by pickle between processes that belong
to the user, as Dask always does: give no scheduler address that others can reach.
"""

from __future__ import annotations

import argparse
import contextlib
import logging
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from cxcompress.errors import InputError, MissingExtra
from cxcompress.runs import WorkUnit, versions

LOCAL = "local"
WORKER_BYTES = 3 * 10**9
"""Memory that a local worker with TensorFlow is counted at where their number is not given."""
MEMORY_SHARE = 0.9
"""Share of the machine's memory that the local workers may take together."""
LOST_WORKERS = 20
"""How often a unit's worker may die before the unit is given up."""
CONNECTION_SECONDS = 10
NOT_COMPARED = ("output_path", "overwrite", "scheduler", "workers", "storage")
"""Flags that say where and by whom a sweep's work is done, not what comes out."""
_THREAD_VARIABLES = ("TF_NUM_INTRAOP_THREADS", "TF_NUM_INTEROP_THREADS", "OMP_NUM_THREADS",
                     "OPENBLAS_NUM_THREADS")


def add_scheduler_flags(parse: argparse.ArgumentParser) -> None:
    """`--scheduler` and `--workers`."""
    parse.add_argument("--scheduler", default=LOCAL, metavar="local|tcp://…",
                       help="who does the work: local processes, or the Dask cluster whose "
                       "scheduler has this address (local)")
    parse.add_argument("--workers", type=int, metavar="N",
                       help="local processes; 1 works in this one (one a core, of at most "
                       f"{WORKER_BYTES / 1e9:g} GB of memory each)")


class Pool:
    """Does work units on the workers of a Dask cluster.

    Args:
        client: Connected to its scheduler.
    """

    def __init__(self, client):
        self.client = client

    def finished(self, units: Sequence[WorkUnit]) -> Iterator[tuple[WorkUnit, Any]]:
        """Units and their results, in the order in which they are done.

        Raises:
            InputError: If a unit raises it, or its workers die again and again.
        """
        from distributed import KilledWorker, as_completed

        futures = {self.client.submit(_call, unit.function, dict(unit.arguments), pure=False,
                                      key=f"{unit.file_name}-{number}"): unit
                   for number, unit in enumerate(units)}
        try:
            for future in as_completed(list(futures)):
                unit = futures.pop(future)
                try:
                    result = future.result()
                except KilledWorker as error:
                    raise InputError(
                        f"{unit.id}: its worker died {LOST_WORKERS + 1} times, of too little "
                        "memory for example; give fewer --workers, or smaller work") from error
                future.release()
                yield unit, result
        finally:
            with contextlib.suppress(Exception):  # of a scheduler that has gone
                self.client.cancel(list(futures))


def _call(function: Callable[..., Any], arguments: dict[str, Any]) -> Any:
    return function(**arguments)


@contextmanager
def workers(scheduler: str = LOCAL, count: int | None = None) -> Iterator[Pool | None]:
    """The pool that `--scheduler` and `--workers` ask for; None: work in this process.

    Args:
        scheduler: `"local"`, or the address of a Dask scheduler.
        count: Local processes; None: one a core, fewer where memory is short, and this process
            alone where Dask is not installed.

    Raises:
        InputError: If the scheduler cannot be reached, has no workers, or they run other
            versions.
        MissingExtra: If several processes are wanted and Dask is not installed.
    """
    if scheduler != LOCAL:
        if count is not None:
            raise InputError(f"--workers {count} is for --scheduler {LOCAL}; a cluster has the "
                             "workers it has")
        with _client(scheduler) as client:
            check_versions(client, scheduler)
            yield Pool(client)
        return
    if count is not None and count < 1:
        raise InputError(f"--workers {count}: give at least 1")
    cores, memory = len(os.sched_getaffinity(0)), machine_bytes()
    wanted = count or max(1, min(cores, int(MEMORY_SHARE * memory) // WORKER_BYTES))
    if wanted == 1:
        yield None
        return
    try:
        from distributed import Client, LocalCluster
    except ImportError as error:
        if count is None:
            yield None
            return
        raise MissingExtra("dask", "scale") from error
    threads = str(max(1, cores // wanted))
    with _settings(), _quiet_workers(), LocalCluster(
            n_workers=wanted, threads_per_worker=1, host="127.0.0.1",
            dashboard_address="127.0.0.1:0",
            memory_limit=int(MEMORY_SHARE * memory / wanted), silence_logs=logging.CRITICAL,
            env={"TF_CPP_MIN_LOG_LEVEL": "3"} | dict.fromkeys(_THREAD_VARIABLES, threads),
    ) as cluster, Client(cluster) as client:
        yield Pool(client)


@contextmanager
def _quiet_workers() -> Iterator[None]:
    import dask

    with dask.config.set({"distributed.worker.preload": ["cxcompress.search.worker_signals"]}):
        yield


def machine_bytes() -> int:
    """Memory of this machine, or of the control group that this process may use."""
    total = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    with contextlib.suppress(OSError, ValueError):
        with open("/sys/fs/cgroup/memory.max") as file:
            total = min(total, int(file.read()))
    return total


@contextmanager
def _settings() -> Iterator[None]:
    try:
        import dask
        import distributed  # noqa: F401, since it brings the settings that are set here
    except ImportError as error:
        raise MissingExtra("dask", "scale") from error
    memory = {f"distributed.worker.memory.{name}": False for name in ("target", "spill", "pause")}
    with dask.config.set(memory | {
            "distributed.scheduler.allowed-failures": LOST_WORKERS,
            "distributed.scheduler.worker-saturation": 1.0,
            "distributed.worker.memory.terminate": 0.98}):
        yield


@contextmanager
def _client(address: str):
    with _settings():
        from distributed import Client

        try:
            client = Client(address, timeout=CONNECTION_SECONDS, set_as_default=False)
        except (OSError, ValueError, TimeoutError) as error:
            raise InputError(f"--scheduler {address}: no Dask scheduler answers there within "
                             f"{CONNECTION_SECONDS} s; start one with `dask scheduler` and give "
                             f"the address that it prints, or {LOCAL}") from error
        with client:
            yield client


def check_versions(client, address: str) -> None:
    """Refuse a cluster whose workers would not give the results that this process gives.

    Raises:
        InputError: If there are no workers, or they have other versions.
    """
    own = _versions()
    try:
        found = client.run(_versions)
    except Exception as error:  # whatever another installation makes of our function
        raise InputError(f"--scheduler {address}: its workers cannot run cxcompress ({error}); "
                         "install the same version there") from error
    if not found:
        raise InputError(f"--scheduler {address}: has no workers; start some with "
                         f"`dask worker {address}`")
    for worker, theirs in found.items():
        other = [f"{name} {theirs.get(name, 'missing')} instead of {version}"
                 for name, version in own.items() if theirs.get(name) != version]
        if other:
            raise InputError(f"--scheduler {address}: worker {worker} has {', '.join(other)}; "
                             "install the same versions there")


def _versions() -> dict[str, str]:
    import distributed

    return versions() | {"distributed": distributed.__version__}
