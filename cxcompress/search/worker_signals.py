"""What a local Dask worker loads first: it leaves Ctrl-C to the process that started it.

A terminal sends the interrupt to all processes of a command; the first one stops its workers and
says so in one line.
"""

from __future__ import annotations

import signal


def dask_setup(worker: object) -> None:
    """Called by Dask in the main thread of a worker's process."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
