"""`cxcompress doctor`: what is installed, what this machine has, and whether it answers rightly.

Needs no TensorFlow, and imports none of the packages that it reports on.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import json
import os
import platform
import re
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from cxcompress import __version__
from cxcompress.commands.command_line import OneLineParser, run
from cxcompress.errors import InputError

INSTRUCTIONS = ("sse4_2", "avx", "avx2", "fma", "f16c", "avx512f", "avx512bw", "avx_vnni",
                "avx512_vnni", "amx_int8", "asimd", "asimddp", "i8mm", "sve")
"""What LiteRT's kernels choose by, as Linux names them on x86 and ARM."""
THREAD_SETTINGS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "TF_NUM_INTRAOP_THREADS")
OWN_TOOLS = ("dev", "docs")
"""Extras that only those who work on cxcompress itself need."""
_REQUIREMENT = re.compile(r"([A-Za-z0-9][A-Za-z0-9._-]*)\s*([^;]*)(?:;(.*))?")
_EXTRA = re.compile(r"""extra\s*==\s*["']([^"']+)["']""")


def build_parser() -> OneLineParser:
    """The flags of `cxcompress doctor`."""
    parse = OneLineParser(
        prog="cxcompress doctor", description="Versions, processor, memory, extras, and a "
        "self-test of the runtime on a bundled file. Status 0: all works; 2: not, with one line.",
        epilog="example: cxcompress doctor --json",
        formatter_class=argparse.RawDescriptionHelpFormatter)
    parse.add_argument("--threads", type=int, default=1, help="threads of the self-test (1)")
    parse.add_argument("--json", action="store_true", help="JSON instead of text")
    return parse


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; returns the exit status."""
    return run(build_parser(), doctor, argv)


def doctor(arguments: argparse.Namespace) -> None:
    """Print what was found; the self-test comes last, so that the rest is there if it fails.

    Raises:
        InputError: If the runtime does not work here.
    """
    if arguments.threads < 1:
        raise InputError(f"--threads {arguments.threads}: must be at least 1")
    packages = runtime_packages()
    found: dict[str, Any] = {"cxcompress": __version__, "python": python(), "machine": machine(),
                             "runtime": packages, "extras": extras()}
    missing = [name for name, version in packages.items() if version is None]
    problem: InputError | None = None
    if missing:
        problem = InputError(f"not installed: {', '.join(missing)}; run: pip install cxcompress")
    else:
        from cxcompress.runtime.self_test import MODEL, run_in_child

        try:
            found["self_test"] = {"file": str(MODEL), **run_in_child(arguments.threads)}
        except InputError as error:
            problem = error
    print(json.dumps({**found, "works": problem is None}, indent=2) if arguments.json
          else as_text(found))
    if problem is not None:
        raise problem


def python() -> dict[str, str]:
    """Version, implementation and file of the interpreter."""
    return {"version": platform.python_version(),
            "implementation": platform.python_implementation(), "executable": sys.executable}


def machine() -> dict[str, Any]:
    """System, processor, instruction set, cores, thread settings and bytes of memory."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    processor, instructions = _processor()
    return {"system": platform.platform(), "architecture": platform.machine(),
            "processor": processor, "instructions": instructions, "cores": cores,
            "threads": min(4, os.cpu_count() or 1),
            "settings": {name: os.environ[name] for name in THREAD_SETTINGS if name in os.environ},
            **_memory()}


def _processor() -> tuple[str, list[str]]:
    """Name and the instruction sets that matter here; no names where the system does not say."""
    facts = Path("/proc/cpuinfo")
    if not facts.exists():
        return platform.processor(), []
    text = facts.read_text()
    name = re.search(r"(?:model name|Hardware)\s*:\s*(.+)", text)
    flags = re.search(r"(?:flags|Features)\s*:\s*(.+)", text)
    known = set(flags[1].split()) if flags else set()
    return (name[1] if name else platform.processor(),
            [one for one in INSTRUCTIONS if one in known])


def _memory() -> dict[str, int | None]:
    """Bytes in all, free, and the limit of this container or process, where the system says."""
    memory: dict[str, int | None] = {"memory": None, "memory_available": None,
                                     "memory_limit": None}
    facts = Path("/proc/meminfo")
    if facts.exists():
        kilobytes = dict(re.findall(r"(\w+):\s+(\d+) kB", facts.read_text()))
        for key, name in (("memory", "MemTotal"), ("memory_available", "MemAvailable")):
            memory[key] = 1024 * int(kilobytes[name]) if name in kilobytes else None
    elif hasattr(os, "sysconf") and "SC_PHYS_PAGES" in os.sysconf_names:
        memory["memory"] = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    limits = []
    for file in ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes"):
        if os.access(file, os.R_OK) and (said := Path(file).read_text().strip()).isdigit():
            limits.append(int(said))
    try:
        import resource

        soft, _ = resource.getrlimit(resource.RLIMIT_AS)
        limits += [soft] if soft != resource.RLIM_INFINITY else []
    except ImportError:  # Windows
        pass
    smallest = min(limits, default=None)
    if smallest is not None and smallest < (memory["memory"] or sys.maxsize):
        memory["memory_limit"] = smallest
    return memory


def _requirements() -> dict[str | None, list[tuple[str, str]]]:
    """Extra → names and version conditions of the distributions that it brings; None: always."""
    try:
        needed = importlib.metadata.requires("cxcompress") or []
    except importlib.metadata.PackageNotFoundError:
        return {}
    result: dict[str | None, list[tuple[str, str]]] = {}
    for one in needed:
        if (parts := _REQUIREMENT.match(one)) is not None:
            extra = _EXTRA.search(parts[3] or "")
            result.setdefault(extra[1] if extra else None, []).append(
                (parts[1], parts[2].strip().strip("()")))
    return result


def _installed(distribution: str) -> str | None:
    try:
        return importlib.metadata.version(distribution)
    except importlib.metadata.PackageNotFoundError:
        return None


def _fits(version: str, condition: str) -> bool:
    """Whether a version meets `>=` and `<` conditions, by its leading numbers."""
    def numbers(text: str) -> list[int]:
        return [int(part) for part in re.findall(r"\d+", re.split(r"[^\d.]", text.strip())[0])]

    for part in condition.split(","):
        if part.strip().startswith(">=") and numbers(version) < numbers(part.strip()[2:]):
            return False
        if re.match(r"\s*<[^=]", part) and numbers(version) >= numbers(part.strip()[1:]):
            return False
    return True


def runtime_packages() -> dict[str, str | None]:
    """Distribution → version of what the runtime needs; None: not installed."""
    needed = [name for name, _ in _requirements().get(None, ())]
    return {name: _installed(name)
            for name in needed or ("numpy", "h5py", "Pillow", "ai-edge-litert")}


def extras() -> dict[str, dict[str, Any]]:
    """Extra → `complete`, `missing` distributions, those `too_old` or new, `install` line."""
    result = {}
    for extra, needed in sorted(_requirements().items(), key=lambda item: item[0] or ""):
        if extra is None or extra in OWN_TOOLS:
            continue
        versions = {name: _installed(name) for name, _ in needed}
        missing = [name for name, version in versions.items() if version is None]
        other = [f"{name} {version} (needs {condition})" for name, condition in needed
                 if (version := versions[name]) is not None and not _fits(version, condition)]
        result[extra] = {"complete": not missing and not other, "missing": missing,
                         "other_version": other,
                         "install": f"pip install 'cxcompress[{extra}]'"}
    return result


def as_text(found: dict[str, Any]) -> str:
    """The report, a fact a line."""
    host = found["machine"]
    memory = [f"{host[key] / 1e9:.1f} GB {word}" for key, word in (
        ("memory", ""), ("memory_available", "available"), ("memory_limit", "at most allowed"))
        if host[key] is not None]
    settings = "".join(f", {name}={value}" for name, value in host["settings"].items())
    lines = [
        f"cxcompress     {found['cxcompress']}",
        f"Python         {found['python']['version']} ({found['python']['executable']})",
        f"system         {host['system']}",
        f"processor      {host['processor'] or host['architecture']}, {host['cores']} cores; the "
        f"runtime takes {host['threads']} threads{settings}",
        f"instructions   {' '.join(host['instructions']) or 'not known'}",
        f"memory         {', '.join(part.strip() for part in memory) or 'not known'}", "",
        "runtime        " + ", ".join(
            f"{name} {version or 'MISSING'}" for name, version in found["runtime"].items())]
    if not found["extras"]:
        lines.append("extras         not known: cxcompress runs from a folder, not installed")
    for name, extra in found["extras"].items():
        lacks = ", ".join(extra["missing"] + extra["other_version"])
        lines.append(f"[{name}]".ljust(15) + ("installed" if extra["complete"]
                                              else f"lacks {lacks}; {extra['install']}"))
    if "self_test" in found:
        test = found["self_test"]
        lines += ["", "self-test      " + ", ".join(
            f"{plan} {facts['probability']:.3f} ({facts['milliseconds']:.1f} ms)"
            for plan, facts in test["plans"].items()) + ": all as stored",
            f"               of {test['file']}",
            "cxcompress is a research tool, not a medical device."]
    return "\n".join(lines)
