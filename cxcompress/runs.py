"""Run folders, work units, atomic files and progress: what every long command shares.

    with RunFolder.open("results/demo", arguments, overwrite=False) as folder:
        units = [WorkUnit(f"layer-{name}", measure, {"layer": name}) for name in layers]
        results = folder.run_units(units, "Sensitivity")     # skips those already done
        folder.write_json("results.json", {...})

A run folder holds `run.json` (arguments, versions, seed, state) and `units/<id>.json`, one file a
finished work unit. An interrupted run is continued by the same command: finished units are read
back, not computed again. A folder of a finished run is refused without `overwrite`.
"""

from __future__ import annotations

import csv
import hashlib
import importlib.metadata
import io
import json
import math
import os
import platform
import re
import shutil
import sys
import tempfile
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from cxcompress import __version__
from cxcompress.errors import InputError

current_command: ContextVar[str] = ContextVar("current_command", default="")
"""The command line that is running, for `run.json`; empty where the library is called."""

_TEMPORARY = re.compile(r"\..*-(\d+)-[a-z0-9_]{8}(\..*)?")

REPORTED_PACKAGES = ("numpy", "h5py", "tensorflow", "keras", "scikit-learn", "pandas")


@contextmanager
def atomic_path(path: str | os.PathLike) -> Iterator[Path]:
    """A temporary path beside `path`, renamed to it when the block ends without an exception.

    Whatever goes wrong inside, a full disk for one, `path` keeps what it held and the temporary
    file is removed. The content is on the disk before the name is, so that neither a killed
    process nor lost power leaves part of a file under its final name.

    Raises:
        InputError: If the operating system refuses to write; the message names `path`.
    """
    path = Path(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(
            dir=path.parent, prefix=f".{path.stem[:100]}-{os.getpid()}-", suffix=path.suffix
        )
        os.close(handle)
    except OSError as error:
        raise InputError(f"{path}: cannot be written ({error.strerror})") from error
    temporary = Path(name)
    try:
        yield temporary
        temporary.chmod(0o666 & ~_umask())  # mkstemp makes it private
        with open(temporary, "rb+") as file:
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except OSError as error:
        raise InputError(f"{path}: cannot be written ({error.strerror or error}); "
                         "nothing was left behind") from error
    finally:
        temporary.unlink(missing_ok=True)


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


def remove_orphans(folder: str | os.PathLike) -> None:
    """Remove temporary files of `atomic_path` below a folder whose process was killed."""
    for path in Path(folder).rglob(".*"):
        match = _TEMPORARY.fullmatch(path.name)
        if match and not _alive(int(match[1])):
            path.unlink(missing_ok=True)


def _alive(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except (OSError, OverflowError):  # somebody else's
        return True
    return True


def write_atomic(path: str | os.PathLike, content: str | bytes) -> None:
    """Write `content` to `path`, whole or not at all.

    Raises:
        InputError: If the file cannot be written.
    """
    with atomic_path(path) as temporary:
        data = content.encode() if isinstance(content, str) else content
        with open(temporary, "wb") as file:
            file.write(data)


def to_json(content: Any) -> str:
    """JSON text of nested mappings, sequences, NumPy scalars and dataclasses; NaN becomes null."""
    return json.dumps(_plain(content), indent=2, ensure_ascii=False, allow_nan=False) + "\n"


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if hasattr(value, "__dataclass_fields__"):
        return {name: _plain(getattr(value, name)) for name in value.__dataclass_fields__}
    if hasattr(value, "tolist"):
        return _plain(value.tolist())
    if isinstance(value, str | bool | int) or value is None:
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, os.PathLike):
        return str(value)
    if isinstance(value, Iterable):
        return [_plain(item) for item in value]
    raise TypeError(f"not writable as JSON. Received: {type(value).__name__}")


def to_csv(rows: Sequence[Mapping[str, Any]]) -> str:
    """CSV text of rows that share their keys; the header is the first row's keys."""
    text = io.StringIO()
    writer = csv.DictWriter(text, fieldnames=list(rows[0]) if rows else [], lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()


def versions() -> dict[str, str]:
    """Versions of Python, cxcompress and the libraries that results depend on."""
    found = {"python": platform.python_version(), "cxcompress": __version__}
    for package in REPORTED_PACKAGES:
        try:
            found[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


def machine() -> dict[str, Any]:
    """The machine that timings were taken on: processor, cores, operating system."""
    processor = platform.processor() or platform.machine()
    if os.path.exists("/proc/cpuinfo"):
        names = re.findall(r"model name\s*:\s*(.+)", Path("/proc/cpuinfo").read_text())
        processor = names[0] if names else processor
    return {"processor": processor, "cores": os.cpu_count(), "system": platform.system()}


def progress(items: Iterable, description: str, total: int | None = None) -> Iterable:
    """Iterate with a progress bar and the time left, on standard error where that is a terminal.

    Without `tqdm` the items are passed through.
    """
    try:
        from tqdm import tqdm
    except ImportError:
        return items
    return tqdm(items, desc=description, total=total, disable=not sys.stderr.isatty(), leave=False)


@dataclass(frozen=True)
class WorkUnit:
    """One piece of a long study: a stable id, a pure function and its arguments.

    Args:
        id: Stable across runs, e.g. `"sensitivity/conv1/kernel"`.
        function: Called as `function(**arguments)`; its result must be writable as JSON.
        arguments: Keyword arguments of the function.
    """

    id: str
    function: Callable[..., Any]
    arguments: Mapping[str, Any] = field(default_factory=dict)

    @property
    def file_name(self) -> str:
        """The unit's result file: readable, and unique whatever characters the id holds."""
        readable = re.sub(r"[^A-Za-z0-9=-]+", "_", self.id)[:80]
        return f"{readable}-{hashlib.sha256(self.id.encode()).hexdigest()[:8]}.json"


class UnitPool(Protocol):
    """Whatever does work units elsewhere, e.g. `search.scheduling.Pool`."""

    def finished(self, units: Sequence[WorkUnit]) -> Iterator[tuple[WorkUnit, Any]]:
        """Units and their results, in the order in which they are done."""


def run_units(
    units: Sequence[WorkUnit], folder: str | os.PathLike | None = None,
    description: str = "Work", pool: UnitPool | None = None,
) -> dict[str, Any]:
    """Run the units that have no result yet; return all results by unit id.

    Args:
        units: In the order in which they run.
        folder: Where each result is written, atomically, as soon as it is known, and read back
            from; None keeps results in memory only.
        description: What the progress bar says.
        pool: Does the units; None: this process, one after the other.

    Returns:
        Results as JSON gives them back: equal whether computed now or read.
    """
    results, waiting = {}, []
    for unit in units:
        path = None if folder is None else Path(folder) / unit.file_name
        if path is not None and path.exists():
            results[unit.id] = json.loads(path.read_text())["result"]
        else:
            waiting.append(unit)
    finished = pool.finished(waiting) if pool is not None and waiting else (
        (unit, unit.function(**unit.arguments)) for unit in waiting)
    for unit, result in progress(finished, description, total=len(waiting)):
        text = to_json({"id": unit.id, "result": result})
        results[unit.id] = json.loads(text)["result"]
        if folder is not None:
            write_atomic(Path(folder) / unit.file_name, text)
    return {unit.id: results[unit.id] for unit in units}


class RunFolder:
    """The folder of one run of a command. Use `RunFolder.open` as a context manager.

    On a clean end the state in `run.json` becomes `"done"`; after an exception or an interrupt it
    stays `"unfinished"`, and the same command continues. After bad input, a folder that holds no
    finished work is removed again.
    """

    def __init__(self, path: Path, record: dict[str, Any]):
        self.path = path
        self.record = record

    @classmethod
    def open(
        cls, path: str | os.PathLike, arguments: Mapping[str, Any], *, overwrite: bool = False,
        extendable: Collection[str] = (),
    ) -> RunFolder:
        """Create the folder, or continue the unfinished run of the same arguments in it.

        Args:
            path: The run folder.
            arguments: All that the result depends on; stored in `run.json` and compared on resume.
            overwrite: Replace whatever *run* the folder holds.
            extendable: Names of arguments that list independent work units. They may differ from
                those of the run in the folder, finished or not, which then grows: `run.json`
                keeps what either asked for.

        Raises:
            InputError: If the folder holds a finished run, a run of other arguments, or files of
                some other kind (those are never deleted).
        """
        path = Path(path)
        arguments = json.loads(to_json(arguments))
        if path.exists() and not path.is_dir():
            raise InputError(f"{path}: is a file; give --output_path a folder")
        record_path = path / "run.json"
        if os.name == "posix" and path.is_dir():  # elsewhere asking for a process may end it
            remove_orphans(path)
        if path.is_dir() and any(path.iterdir()):
            previous = cls._previous(record_path)
            if previous is None:
                raise InputError(f"{path}: exists and holds no run of cxcompress; "
                                 "give another --output_path")
            if not overwrite:
                state, before = previous["state"], previous.get("arguments", {})
                changed = {name for name in arguments.keys() | before.keys()
                           if arguments.get(name) != before.get(name)}
                grown = {name: list(dict.fromkeys([*before.get(name, []), *arguments[name]]))
                         for name in changed.intersection(extendable)}
                if state == "done" and (not grown or grown.keys() != changed):
                    raise InputError(f"{path}: holds a finished run; give --overwrite to replace "
                                     "it, or another --output_path")
                if changed - grown.keys():
                    raise InputError(
                        f"{path}: holds an unfinished run with another "
                        f"{', '.join(sorted(changed - grown.keys()))}; "
                        "give --overwrite to replace it, or another --output_path")
                folder = cls(path, previous | {"state": "unfinished",
                                               "arguments": before | grown})
                folder.write_json("run.json", folder.record)
                return folder
            for entry in path.iterdir():
                if entry.is_dir() and not entry.is_symlink():
                    shutil.rmtree(entry)
                else:
                    entry.unlink()
        record = {"state": "unfinished", "command": current_command.get(),
                  "arguments": arguments, "versions": versions(), "machine": machine()}
        folder = cls(path, record)
        folder.write_json("run.json", record)
        return folder

    @staticmethod
    def _previous(record_path: Path) -> dict[str, Any] | None:
        try:
            record = json.loads(record_path.read_text())
        except (OSError, ValueError):
            return None
        return record if isinstance(record, dict) and "state" in record else None

    def __enter__(self) -> RunFolder:
        return self

    def __exit__(self, kind, error, traceback) -> None:
        if kind is None:
            self.record["state"] = "done"
            self.write_json("run.json", self.record)
        elif issubclass(kind, InputError):
            if [entry.name for entry in self.path.iterdir()] == ["run.json"]:
                (self.path / "run.json").unlink()
                self.path.rmdir()

    def run_units(
        self, units: Sequence[WorkUnit], description: str, pool: UnitPool | None = None
    ) -> dict[str, Any]:
        """`run_units` with the results kept in this folder."""
        return run_units(units, self.path / "units", description, pool)

    def results(self) -> dict[str, Any]:
        """Results by unit id of all units ever run in this folder, in the order of their ids."""
        found = [json.loads(path.read_text()) for path in (self.path / "units").glob("*.json")]
        return {unit["id"]: unit["result"] for unit in sorted(found, key=lambda unit: unit["id"])}

    def write_json(self, name: str, content: Any) -> Path:
        """Write `content` to the file `name` in the folder, atomically."""
        write_atomic(self.path / name, to_json(content))
        return self.path / name

    def write_csv(self, name: str, rows: Sequence[Mapping[str, Any]]) -> Path:
        """Write rows to the file `name` in the folder, atomically."""
        write_atomic(self.path / name, to_csv(rows))
        return self.path / name
