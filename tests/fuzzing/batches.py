"""Many cases, each batch in a child process with limits; counted, resumable, the same by seed.

    counts = run_cases(examine, cases=10_000, seed=0, state=Path("state.json"))

`examine(random.Random)` returns the name of the outcome, or raises, which is a finding. A child
that dies, or stands still for 5 seconds of processor time, is a finding too: the case is named, and
the batch goes on behind it. Case i of seed s is drawn from `random.Random(f"{s}/{i}")`.
"""

from __future__ import annotations

import json
import mmap
import os
import random
import resource
import signal
import struct
import sys
import time
import traceback
from collections import Counter
from collections.abc import Callable
from pathlib import Path

from cxcompress.runs import write_atomic

MOST_SECONDS = 5.0
"""Of processor time for one case; and ten times as many by the clock."""
MOST_MEMORY = 4 << 30
"""Address space of a child."""
BATCH = 5000
FINDING = "FINDING"
_TICKS = os.sysconf("SC_CLK_TCK")


def case_random(seed: int, number: int) -> random.Random:
    """What decides case `number`."""
    return random.Random(f"{seed}/{number}")


def run_cases(
    examine: Callable[[random.Random], str], cases: int, seed: int, state: Path | None = None,
    speak: bool = True,
) -> tuple[Counter, list[str]]:
    """Run cases 0 … cases − 1, those that `state` counts already left out.

    Returns:
        Counts by outcome, and a line for each finding.
    """
    counts, findings, first, spent = Counter(), [], 0, 0.0
    if state is not None and state.exists():
        known = json.loads(state.read_text())
        if known["seed"] == seed:
            counts, findings = Counter(known["counts"]), known["findings"]
            first, spent = known["next"], known["seconds"]
    began, told = time.monotonic(), time.monotonic()
    for start in range(first, cases, BATCH):
        end = min(start + BATCH, cases)
        _batch(examine, seed, start, end, counts, findings)
        seconds = spent + time.monotonic() - began
        if state is not None:
            write_atomic(state, json.dumps({
                "seed": seed, "next": end, "seconds": round(seconds, 1), "counts": counts,
                "findings": findings}, indent=1, sort_keys=True))
        if speak and (time.monotonic() - told > 30 or end == cases):
            told = time.monotonic()
            print(f"{end} cases, {(end - first) / (told - began):.0f} a second, "
                  f"{len(findings)} findings", file=sys.stderr, flush=True)
    return counts, findings


def _batch(examine, seed: int, start: int, end: int, counts: Counter, findings: list[str]) -> None:
    while start < end:
        shared = mmap.mmap(-1, 16)
        reader, writer = os.pipe()
        child = os.fork()
        if child == 0:
            os.close(reader)
            _child(examine, seed, start, end, shared, writer)
        os.close(writer)
        ended = _watch(child, shared)
        with os.fdopen(reader) as pipe:
            said = pipe.read()
        if said:
            result = json.loads(said)
            counts.update(result["counts"])
            findings += result["findings"]
            return
        # It died at a case: those before are counted again without it.
        bad = struct.unpack("<q", shared[:8])[0]
        if bad > start:
            _batch(examine, seed, start, bad, counts, findings)
        name = ended if isinstance(ended, str) else (
            f"crash ({signal.Signals(os.WTERMSIG(ended)).name})" if os.WIFSIGNALED(ended)
            else f"exit {os.WEXITSTATUS(ended)}")
        counts[f"{FINDING}: {name}"] += 1
        findings.append(f"case {bad}: {name}")
        start = bad + 1


def _watch(child: int, shared: mmap.mmap) -> int | str:
    """Wait for a child; end one that stands still."""
    current, since, used, wait = -1, time.monotonic(), 0.0, 0.002
    while True:
        pid, status = os.waitpid(child, os.WNOHANG)
        if pid:
            return status
        time.sleep(wait)
        wait = min(2 * wait, 0.2)
        now = struct.unpack("<q", shared[:8])[0]
        fields = Path(f"/proc/{child}/stat").read_text().rsplit(")", 1)[1].split()
        processor = (int(fields[11]) + int(fields[12])) / _TICKS
        if now != current:
            current, since, used = now, time.monotonic(), processor
        elif (processor - used > MOST_SECONDS
              or time.monotonic() - since > 10 * MOST_SECONDS):
            os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)
            return f"hang (over {MOST_SECONDS:.0f} s)"


def _child(examine, seed: int, start: int, end: int, shared: mmap.mmap, writer: int) -> None:
    resource.setrlimit(resource.RLIMIT_AS, (MOST_MEMORY, MOST_MEMORY))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    counts, findings = Counter(), []
    try:
        for number in range(start, end):
            shared[:8] = struct.pack("<q", number)
            try:
                counts[examine(case_random(seed, number))] += 1
            except Exception as error:  # whatever it is, it is what we look for
                frame = traceback.extract_tb(error.__traceback__)[-1]
                name = f"{type(error).__name__} in {Path(frame.filename).name}:{frame.name}"
                counts[f"{FINDING}: {name}"] += 1
                findings.append(f"case {number}: {name}: {str(error)[:200]}")
        with os.fdopen(writer, "w") as pipe:
            pipe.write(json.dumps({"counts": counts, "findings": findings}))
    finally:
        os._exit(0)


def print_counts(counts: Counter, findings: list[str], seconds: float | None = None) -> None:
    """The table by outcome, and the first findings."""
    total = sum(counts.values())
    for name, count in sorted(counts.items(), key=lambda pair: (-pair[1], pair[0])):
        print(f"{count:10d}  {100 * count / total:6.2f}%  {name}")
    print(f"{total:10d}  cases" + (f", {total / seconds:.0f} a second" if seconds else ""))
    for line in findings[:40]:
        print(line)
