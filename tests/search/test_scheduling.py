"""Work units on local processes and on a cluster: all done, once, whatever dies."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time

import pytest

from cxcompress.errors import InputError
from cxcompress.runs import WorkUnit, run_units
from cxcompress.search import scheduling
from cxcompress.search.scheduling import workers

pytest.importorskip("distributed")


def square(number: int) -> dict:
    return {"square": number * number, "process": os.getpid()}


def die_once(number: int, folder: str) -> int:
    """Kill the process that does it, the first time."""
    marker = os.path.join(folder, f"died-{number}")
    if number % 3 == 0 and not os.path.exists(marker):
        open(marker, "w").close()
        os.kill(os.getpid(), signal.SIGKILL)
    return number * number


def ignores_interrupts(number: int) -> bool:
    return signal.getsignal(signal.SIGINT) == signal.SIG_IGN


def refuse(number: int) -> int:
    if number == 2:
        raise InputError("image 2 is damaged; remove it")
    return number


def units(function, count: int, **more) -> list[WorkUnit]:
    return [WorkUnit(f"unit/{number}", function, {"number": number} | more)
            for number in range(count)]


@pytest.fixture(scope="module")
def two_workers():
    with workers("local", 2) as pool:
        yield pool


def test_one_worker_is_this_process():
    with workers("local", 1) as pool:
        assert pool is None


def test_an_interrupt_of_all_processes_is_left_to_the_first_one(two_workers):
    # Tests that were started in the background ignore interrupts themselves.
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        found = run_units(units(ignores_interrupts, 8), None, "Signals", two_workers)
        assert set(found.values()) == {True}
        assert signal.getsignal(signal.SIGINT) == signal.default_int_handler
    finally:
        signal.signal(signal.SIGINT, before)


def test_all_units_are_done_in_other_processes_and_written_once(two_workers, tmp_path):
    found = run_units(units(square, 30), tmp_path, "Squares", two_workers)
    assert list(found) == [f"unit/{number}" for number in range(30)]
    assert [row["square"] for row in found.values()] == [n * n for n in range(30)]
    processes = {row["process"] for row in found.values()}
    assert os.getpid() not in processes and 1 <= len(processes) <= 2
    before = {path: path.stat().st_mtime_ns for path in tmp_path.iterdir()}
    assert len(before) == 30
    assert run_units(units(square, 30), tmp_path, "Squares", two_workers) == found
    assert {path: path.stat().st_mtime_ns for path in tmp_path.iterdir()} == before


def test_a_run_that_was_done_in_part_here_goes_on_there(two_workers, tmp_path):
    run_units(units(square, 5), tmp_path)
    found = run_units(units(square, 8), tmp_path, "Squares", two_workers)
    assert {row["process"] for row in list(found.values())[:5]} == {os.getpid()}
    assert [row["square"] for row in found.values()] == [n * n for n in range(8)]


def test_units_of_workers_that_were_killed_are_done_again(tmp_path):
    (tmp_path / "died").mkdir()
    with workers("local", 2) as pool:
        found = run_units(units(die_once, 9, folder=str(tmp_path / "died")), tmp_path / "units",
                          "Squares", pool)
    assert len(list((tmp_path / "died").iterdir())) == 3
    assert list(found.values()) == [n * n for n in range(9)]
    written = [json.loads(path.read_text()) for path in (tmp_path / "units").iterdir()]
    assert {unit["id"]: unit["result"] for unit in written} == found


def test_bad_input_in_a_unit_stops_the_sweep_and_keeps_what_is_done(two_workers, tmp_path):
    with pytest.raises(InputError, match="image 2 is damaged"):
        run_units(units(refuse, 5), tmp_path, "Refused", two_workers)
    assert not [path for path in tmp_path.iterdir() if path.name.startswith("unit_2")]


def test_no_scheduler_at_the_address(monkeypatch):
    monkeypatch.setattr(scheduling, "CONNECTION_SECONDS", 1)
    with (pytest.raises(InputError, match="no Dask scheduler answers there"),
          workers(f"tcp://127.0.0.1:{free_port()}")):
        pass


@pytest.mark.parametrize("count", [0, -1])
def test_a_number_of_workers_that_makes_no_sense(count):
    with pytest.raises(InputError, match="at least 1"), workers("local", count):
        pass


def free_port() -> int:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return taken.getsockname()[1]


def test_two_workers_by_address_and_what_is_wrong_with_a_cluster(tmp_path, monkeypatch):
    address = f"tcp://127.0.0.1:{free_port()}"
    dask = [sys.executable, "-m", "dask"]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL, "env": environment,
             "cwd": tmp_path}
    started = [subprocess.Popen([*dask, "scheduler", "--host", "127.0.0.1", "--port",
                                 address.rpartition(":")[2], "--no-dashboard"], **quiet)]
    try:
        with pytest.raises(InputError, match="has no workers"):
            patiently(address)
        started += [subprocess.Popen([*dask, "worker", address, "--nthreads", "1",
                                      "--no-dashboard"], **quiet) for _ in range(2)]
        found: dict = {}
        deadline = time.monotonic() + 60
        while len({row["process"] for row in found.values()}) < 2:
            assert time.monotonic() < deadline, "two workers did not come"
            try:
                with workers(address) as pool:
                    found = run_units(units(square, 20), None, "Squares", pool)
            except InputError:
                time.sleep(0.5)
        assert [row["square"] for row in found.values()] == [n * n for n in range(20)]
        with pytest.raises(InputError, match="--workers 2 is for --scheduler local"), \
                workers(address, 2):
            pass
        monkeypatch.setattr(scheduling, "versions", lambda: {"cxcompress": "99.0"})
        with pytest.raises(InputError, match="has cxcompress .* instead of 99.0"), \
                workers(address):
            pass
    finally:
        for process in reversed(started):
            process.terminate()
        for process in started:
            process.wait(20)


def patiently(address: str) -> None:
    """Connect, trying again while the scheduler starts."""
    deadline = time.monotonic() + 30
    while True:
        try:
            with workers(address):
                return
        except InputError as error:
            if "no Dask scheduler" not in str(error) or time.monotonic() > deadline:
                raise
