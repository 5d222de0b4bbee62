"""Run a command that opens somebody else's file in a child process, with limits.

A checksum does not stop a crafted file, and LiteRT is written in C++: a hostile graph must cost no
more than one line.
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable


def guarded(command: Callable[[], int]) -> int:
    """The exit status of a command that runs in a forked child.

    Where the system cannot fork (Windows) it runs here.

    Args:
        command: Returns its exit status; called before libraries with threads are imported.
    """
    if not hasattr(os, "fork"):
        return command()
    sys.stdout.flush()
    sys.stderr.flush()
    child = os.fork()
    if child == 0:
        status = 1
        try:
            from cxcompress.runtime.limits import limit_memory

            limit_memory()
            status = command()
        except SystemExit as ended:
            status = ended.code if isinstance(ended.code, int) else 1
        except MemoryError:
            print("not enough memory for this file", file=sys.stderr)
            status = 2
        except BaseException:
            sys.excepthook(*sys.exc_info())
        finally:
            try:
                sys.stdout.flush()
                sys.stderr.flush()
            finally:
                os._exit(status)
    try:
        _, ended = os.waitpid(child, 0)
    except KeyboardInterrupt:
        _, ended = os.waitpid(child, 0)
    if os.WIFSIGNALED(ended):
        name = signal.Signals(os.WTERMSIG(ended)).name
        print(f"LiteRT was stopped by {name} on this file: damaged or not made by cxcompress",
              file=sys.stderr)
        return 2
    return os.WEXITSTATUS(ended)
