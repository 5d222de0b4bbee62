"""`kill -9` at random moments of compress, a sweep and train; then the same command again.

    python tests/faults/kill_commands.py --kills 200 --seed 0 --folder /tmp/kills

Each command is started on a tiny network, killed, looked at, started again and killed again, some
times; then it is left alone, and what it leaves must be what an undisturbed run leaves. Half of the
kills come at a random time, half just before a random file is opened for writing, renamed or
removed. `tune` is compress with fine-tuning, of which there are fewer kills. The children are
forked from a parent that has imported TensorFlow and never used it, which saves ten seconds each.
Counts are kept in the folder: the same command goes on. Exit status 1 if anything was found.
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import random
import shutil
import signal
import sys
import time
import xml.etree.ElementTree
from collections import Counter
from pathlib import Path

import h5py
import numpy as np
from PIL import Image

CHANGES_FILES = ("os.rename", "os.remove", "os.rmdir", "os.mkdir", "os.truncate")
DIFFERS = ("command", "machine", "seconds", "time_ratio", "file", "output_path", "plans")
"""Of JSON files: what says when, where and how fast."""


def commands(folder: Path) -> dict[str, list[str]]:
    """The command lines, without --output_path."""
    net, data = str(folder / "net.h5"), str(folder / "images.npz")
    return {
        "compress": ["compress", "--net", net, "--compression", "uCWS", "--clustercnn", "16",
                     "--clusterfc", "16", "--plans", "none"],
        "tune": ["compress", "--net", net, "--data_path", data, "--compression", "uCWS",
                 "--clustercnn", "16", "--clusterfc", "16", "--epochs", "2", "--plans", "none",
                 "--internal_ho", "True"],
        "sweep": ["quantizer_sweep", "--net", net, "--data_path", data, "--compressions", "uUQ",
                  "uCWS", "--levels", "16", "4"],
        "train": ["train", "--data_path", data, "--size", "16", "--epochs", "2", "--batch_size",
                  "16"],
    }


def prepare(folder: Path) -> None:
    """A tiny network and 90 tiny pictures of two classes."""
    random_ = np.random.default_rng(0)
    labels = np.arange(90) % 2
    images = random_.integers(60, 140, (90, 16, 16)).astype(np.uint8)
    images[labels == 1, 5:11, 5:11] += 60
    split = np.repeat(["train", "val", "test"], 30)
    np.savez(folder / "images.npz", images=images, labels=labels, split=split,
             classes=np.array(["clear", "spot"]))

    def make() -> int:
        import keras

        keras.utils.set_random_seed(0)
        keras.Sequential([
            keras.Input((16, 16, 1)), keras.layers.Conv2D(8, 3, activation="relu"),
            keras.layers.Conv2D(8, 3, activation="relu"), keras.layers.GlobalMaxPooling2D(),
            keras.layers.Dense(2, activation="softmax")]).save(folder / "net.h5")
        return 0

    if os.WEXITSTATUS(forked(make, folder / "prepare.log")):
        raise SystemExit((folder / "prepare.log").read_text())


def forked(call, log: Path, killed_after: float | None = None) -> int:
    """The wait status of a call in a child, killed after so many seconds."""
    child = os.fork()
    if child == 0:
        status = 1
        try:
            out = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
            os.dup2(out, 1)
            os.dup2(out, 2)
            status = call()
            sys.stdout.flush()
        except BaseException:
            sys.excepthook(*sys.exc_info())
            sys.stderr.flush()
        finally:
            os._exit(status)
    end = None if killed_after is None else time.monotonic() + killed_after
    while True:
        pid, status = os.waitpid(child, 0 if end is None else os.WNOHANG)
        if pid:
            return status
        if time.monotonic() > end:
            os.kill(child, signal.SIGKILL)
            end = None
        time.sleep(0.005)


def run_command(argv: list[str], output: Path, killed_at_change: int | None = None) -> int:
    """Run a command here, in a child; kill it before it changes files for the so-manieth time."""
    from cxcompress.commands import main

    if killed_at_change is not None:
        left = [killed_at_change]

        def watch(event: str, facts: tuple) -> None:
            writes = event == "open" and isinstance(facts[2], int) and (
                facts[2] & (os.O_WRONLY | os.O_RDWR))
            if (writes or event in CHANGES_FILES) and str(output) in str(facts[0]):
                left[0] -= 1
                if left[0] <= 0:
                    os.kill(os.getpid(), signal.SIGKILL)

        sys.addaudithook(watch)
    return main([*argv, "--output_path", str(output)])


def broken_files(folder: Path) -> list[str]:
    """Files under final names that are not whole; temporary ones begin with a point."""
    found = []
    for path in sorted(folder.rglob("*")):
        if path.is_file() and not path.name.startswith("."):
            try:
                _check_whole(path)
            except Exception as error:
                found.append(f"{path.name}: {type(error).__name__} {error}"[:200])
    return found


def _check_whole(path: Path) -> None:
    suffix = path.suffix
    if suffix == ".json":
        json.loads(path.read_text())
    elif suffix == ".csv":
        text = path.read_text()
        rows = list(csv.reader(text.splitlines()))
        assert text.endswith("\n") and len({len(row) for row in rows}) == 1, "a cut table"
    elif suffix == ".npz":
        with np.load(path, allow_pickle=False) as file:
            dict(file)
    elif suffix == ".h5":
        from cxcompress.storage import is_container, read_container

        if is_container(path):
            read_container(path)
        else:
            with h5py.File(path) as file:
                file.visititems(lambda _, item: item[()] if isinstance(item, h5py.Dataset)
                                else None)
    elif suffix == ".png":
        Image.open(path).load()
    elif suffix == ".svg":
        xml.etree.ElementTree.parse(path)
    elif suffix == ".html":
        assert path.read_text().rstrip().endswith("</html>"), "a cut page"
    else:
        assert path.stat().st_size, "an empty file"


def content(folder: Path) -> dict[str, object]:
    """What a finished run left, by path, without what says when, where and how fast."""
    found: dict[str, object] = {}
    for path in sorted(folder.rglob("*")):
        if not path.is_file() or path.name.startswith("."):
            continue
        name = str(path.relative_to(folder))
        if path.suffix == ".json":
            found[name] = _without(json.loads(path.read_text()))
        elif path.suffix == ".npz":
            with np.load(path, allow_pickle=False) as file:
                found[name] = {key: (value.dtype.str, value.shape, value.tobytes())
                               for key, value in file.items()}
        elif path.suffix == ".html":
            found[name] = path.read_text().replace(str(folder), "")
        else:
            found[name] = path.read_bytes()
    return found


def _without(value):
    if isinstance(value, dict):
        return {key: _without(item) for key, item in value.items() if key not in DIFFERS}
    return [_without(item) for item in value] if isinstance(value, list) else value


def differences(one: dict[str, object], other: dict[str, object]) -> list[str]:
    """Names of files that only one has, or that differ."""
    return [name for name in sorted(one.keys() | other.keys())
            if one.get(name) != other.get(name)]


def disturbed(name: str, argv: list[str], folder: Path, seconds: float, changes: int,
              expected: dict[str, object], rng: random.Random, counts: Counter,
              findings: list[str], kills: int) -> None:
    """Start, kill and look, up to 12 times; then let the command end, and compare."""
    output = folder / "killed"
    shutil.rmtree(output, ignore_errors=True)
    log = folder / "killed.log"
    chain = min(rng.randrange(4, 13), kills - counts[f"{name}: killed"])
    while True:
        last, chain = chain <= 0, chain - 1
        after = at_change = None
        if not last:
            if rng.random() < 0.5:
                after = rng.uniform(0, seconds)
            else:
                at_change = rng.randrange(1, changes + 1)
        status = forked(lambda at=at_change: run_command(argv, output, at), log, after)
        findings += [f"{name}: {line}" for line in broken_files(output)]
        if os.WIFSIGNALED(status):
            counts[f"{name}: killed"] += 1
            continue
        if os.WEXITSTATUS(status):
            findings.append(f"{name}: went on with exit {os.WEXITSTATUS(status)}: "
                            f"{log.read_text()[-500:]}")
        else:
            counts[f"{name}: ended, compared"] += 1
            findings += [f"{name}: {file} differs from the undisturbed run"
                         for file in differences(expected, content(output))]
            left = [path for path in output.rglob(".*") if path.is_file()]
            counts[f"{name}: temporary files left behind"] += len(left)
        return


def undisturbed(argv: list[str], folder: Path, name: str) -> tuple[dict[str, object], float, int]:
    """What the command leaves, its seconds, and how often it changes files."""
    output = folder / f"undisturbed-{name}"
    shutil.rmtree(output, ignore_errors=True)

    def counted() -> int:
        changes = [0]

        def watch(event: str, facts: tuple) -> None:
            writes = event == "open" and isinstance(facts[2], int) and (
                facts[2] & (os.O_WRONLY | os.O_RDWR))
            if (writes or event in CHANGES_FILES) and str(output) in str(facts[0]):
                changes[0] += 1

        sys.addaudithook(watch)
        status = run_command(argv, output)
        (folder / "changes").write_text(str(changes[0]))
        return status

    began = time.monotonic()
    if forked(counted, folder / "undisturbed.log"):
        raise SystemExit((folder / "undisturbed.log").read_text())
    return content(output), time.monotonic() - began, int((folder / "changes").read_text())


def import_libraries() -> None:
    """All that children need, imported and not used: a used TensorFlow does not survive a fork."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    os.environ.setdefault("MPLBACKEND", "Agg")
    os.environ.setdefault("TF_NUM_INTRAOP_THREADS", "1")
    os.environ.setdefault("TF_NUM_INTEROP_THREADS", "1")
    import keras  # noqa: F401
    import tensorflow  # noqa: F401

    import cxcompress.commands.compress  # noqa: F401
    import cxcompress.commands.quantizer_sweep  # noqa: F401
    import cxcompress.commands.train  # noqa: F401
    import cxcompress.pipeline  # noqa: F401
    import cxcompress.reporting.compression_report  # noqa: F401
    import cxcompress.reporting.cxr_figures  # noqa: F401
    import cxcompress.training  # noqa: F401


def main() -> int:
    parse = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parse.add_argument("--kills", type=int, default=200, help="in all (200)")
    parse.add_argument("--seed", type=int, default=0)
    parse.add_argument("--folder", type=Path, required=True, help="for everything; not the results")
    parse.add_argument("--commands", nargs="+", default=["compress", "sweep", "train", "tune"])
    parse.add_argument("--minutes", type=float, default=1e9, help="stop after so many, resumably")
    args = parse.parse_args()
    folder = args.folder.resolve()
    folder.mkdir(parents=True, exist_ok=True)
    import_libraries()
    prepare(folder)
    state = folder / "state.json"
    known = json.loads(state.read_text()) if state.exists() else {"counts": {}, "findings": []}
    counts, findings = Counter(known["counts"]), known["findings"]
    lines = {name: argv for name, argv in commands(folder).items() if name in args.commands}
    share = {name: 0.3 if name == "tune" else 1.0 for name in lines}
    end = time.monotonic() + 60 * args.minutes
    rng = random.Random(f"{args.seed}/{sum(counts.values())}")
    for name, argv in lines.items():
        each = round(args.kills * share[name] / sum(share.values()))
        if counts[f"{name}: killed"] >= each:
            continue
        expected, seconds, changes = undisturbed(argv, folder, name)
        while counts[f"{name}: killed"] < each and time.monotonic() < end:
            disturbed(name, argv, folder, seconds, changes, expected, rng, counts, findings, each)
            state.write_text(json.dumps({"counts": counts, "findings": findings}, indent=1))
            print(dict(counts), len(findings), file=sys.stderr, flush=True)
    for key, count in sorted(counts.items()):
        print(f"{count:6d}  {key}")
    print(f"{len(findings):6d}  findings")
    print("\n".join(findings[:20]))
    return int(bool(findings))


if __name__ == "__main__":
    sys.exit(main())
