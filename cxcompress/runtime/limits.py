"""How much memory a process that opens somebody else's file may take."""

from __future__ import annotations

MOST_MEMORY = 16 * 2**30
"""Bytes of address space; LiteRT maps more than it uses."""


def limit_memory(most: int = MOST_MEMORY) -> None:
    """Bound this process's address space; nothing happens where the system has no such limit.

    Args:
        most: Bytes.
    """
    try:
        import resource
    except ImportError:  # Windows
        return
    soft, hard = resource.getrlimit(resource.RLIMIT_AS)
    most = most if hard == resource.RLIM_INFINITY else min(hard, most)
    if soft == resource.RLIM_INFINITY or soft > most:
        resource.setrlimit(resource.RLIMIT_AS, (most, hard))
