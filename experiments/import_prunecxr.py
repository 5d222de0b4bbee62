"""Bring the prediction pickles of the original study (PruneCXR) into our store. Run it once.

    python experiments/import_prunecxr.py --pickles prunecxr_preds --dataset nih-cxr-lt \\
        --train_labels labels/miccai2023_nih-cxr-lt_labels_train.csv \\
        --test_labels labels/miccai2023_nih-cxr-lt_labels_test.csv --output_path results/nih
    python experiments/forgettability.py --predictions results/nih --paper_compat

Reads `<dataset>_resnet50_seed-<s>_prune-<k>.pkl` (k = 0, 0.05, …; also with `_random` or `_L1` in
the name): a pandas DataFrame with a column of probabilities a class and `label`, the true names
joined by `|`; or a NumPy array of probabilities in the order of the label files' classes, which
then say the truth. Writes `predictions/` as `prune_sweep.py` does.

A pickle can run any program when opened. So these are opened by an unpickler that knows NumPy
arrays and a dozen names of pandas, for which it makes inert records instead of pandas' objects;
anything else in a file is refused and nothing of it is run. pandas itself is not used, so files of
any of its versions can be read. The library and its commands never open pickles.
"""

from __future__ import annotations

import argparse
import csv
import io
import pickle
import re
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cxcompress.commands.command_line import parser, run
from cxcompress.errors import InputError
from cxcompress.evaluation.forgettability import cooccurrence
from cxcompress.runs import RunFolder, progress
from cxcompress.search.prediction_store import PredictionStore, SweepImages

NUMPY_NAMES = {
    (f"numpy.{core}.multiarray", "_reconstruct") for core in ("core", "_core")} | {
    (f"numpy.{core}.multiarray", "scalar") for core in ("core", "_core")} | {
    (f"numpy.{core}.numeric", "_frombuffer") for core in ("core", "_core")} | {
    ("numpy", "ndarray"), ("numpy", "dtype")}
PANDAS_NAMES = {
    ("pandas.core.frame", "DataFrame"), ("pandas", "DataFrame"),
    ("pandas.core.internals.managers", "BlockManager"),
    ("pandas.core.internals", "BlockManager"),
    ("pandas._libs.internals", "_unpickle_block"),
    ("pandas.core.internals.blocks", "new_block"),
    ("pandas.core.indexes.base", "_new_Index"), ("pandas.core.indexes.base", "Index"),
    ("pandas", "Index"), ("pandas.core.indexes.range", "RangeIndex"), ("pandas", "RangeIndex"),
    ("pandas.core.indexes.numeric", "Int64Index")}
NOT_CLASSES = {"label", "subj_id", "id", "path", "split"}


class Record:
    """What a pickle says of an object of pandas: its name, arguments and state."""

    name = ""

    def __new__(cls, *args):
        record = super().__new__(cls)
        record.args, record.state = args, None
        return record

    def __init__(self, *args):
        pass

    def __setstate__(self, state):
        self.state = state


class InertUnpickler(pickle.Unpickler):
    """Opens arrays, and records of pandas' frames; refuses everything else."""

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) in NUMPY_NAMES:
            return super().find_class(module, name)
        if (module, name) in (("builtins", "slice"), ("__builtin__", "slice")):
            return slice
        if (module, name) == ("_codecs", "encode"):  # how protocols below 3 write bytes
            return lambda text, encoding: str(text).encode("latin1")
        if (module, name) in PANDAS_NAMES:
            return type(name, (Record,), {"name": name})
        raise InputError(f"holds {module}.{name}, which predictions have no need of; refused")


def read_frame(path: Path) -> tuple[dict[str, NDArray], NDArray | None]:
    """The columns of a pickled DataFrame, or a pickled array.

    Returns:
        Columns by name and None, or no columns and the array.

    Raises:
        InputError: If the file holds anything else.
    """
    try:
        content = InertUnpickler(io.BytesIO(path.read_bytes())).load()
        if isinstance(content, np.ndarray):
            return {}, content
        manager = content.state["_mgr"] if "_mgr" in content.state else content.state["_data"]
        axes, blocks = _parts(manager)
        names = [str(name) for name in _index(axes[0])]
        columns: dict[str, NDArray] = {}
        for values, rows in blocks:
            for row, values_of in zip(np.arange(len(names))[rows], values, strict=True):
                columns[names[int(row)]] = np.asarray(values_of)
        if sorted(columns) != sorted(names):
            raise ValueError("columns without values")
        return columns, None
    except InputError as error:
        raise InputError(f"{path}: {error}") from error
    except Exception as error:  # whatever a damaged pickle raises
        raise InputError(f"{path}: not a pickled DataFrame or array of predictions "
                         f"({type(error).__name__}: {error})") from error


def _parts(manager: Record) -> tuple[Sequence[Record], list[tuple[NDArray, Any]]]:
    """Axes and blocks (values, rows) of a BlockManager, of pandas 1.3 on or before."""
    if manager.args:
        blocks, axes = manager.args[:2]
        return axes, [(block.args[0], block.args[1]) for block in blocks]
    if isinstance(manager.state, tuple) and len(manager.state) == 4:
        modern = manager.state[3]["0.14.1"]
        return modern["axes"], [(block["values"], block["mgr_locs"])
                                for block in modern["blocks"]]
    raise ValueError("a DataFrame of an unknown layout")


def _index(index: Record) -> Sequence[Any]:
    kind, state = index.args
    if kind.name == "RangeIndex":
        return range(state["start"], state["stop"], state["step"])
    return list(state["data"])


def read_labels(path: Path) -> tuple[NDArray, NDArray, tuple[str, ...], NDArray]:
    """Image ids, patient ids, classes and truth `(n, c)` of a label CSV of (NIH|MIMIC)-CXR-LT.

    Raises:
        InputError: If it is none.
    """
    try:
        with open(path, newline="", encoding="utf-8-sig") as file:
            rows = list(csv.DictReader(file))
        names = [name for name in rows[0] if name and name not in NOT_CLASSES]
        truth = np.array([[float(row[name]) for name in names] for row in rows])
        key = "id" if "id" in rows[0] else "path"
        image_id = np.array([row[key] for row in rows])
        patient_id = np.array([row.get("subj_id") or row[key] for row in rows])
    except FileNotFoundError as error:
        raise InputError(f"{path}: no such file") from error
    except (OSError, IndexError, KeyError, ValueError, TypeError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: not a label file of the collection ({error})") from error
    if not np.isin(truth, (0, 1)).all():
        raise InputError(f"{path}: labels beside 0 and 1")
    return image_id, patient_id, tuple(names), truth


def find_pickles(folder: Path, dataset: str) -> list[tuple[int, str, float, Path]]:
    """Seed, series, sparsity and file of each pickle.

    Raises:
        InputError: If there is none.
    """
    pattern = re.compile(
        re.escape(dataset) + r".*seed-(\d+).*?_prune-([0-9.]+?)(?:_.*)?\.pkl")
    found = []
    for path in sorted(folder.glob("*.pkl")):
        match = pattern.fullmatch(path.name)
        if match:
            series = "random" if "random" in path.name else "L1"
            found.append((int(match[1]), series, float(match[2]), path))
    if not found:
        raise InputError(f"--pickles {folder}: holds no {dataset}…seed-<s>_prune-<k>.pkl")
    return sorted(found)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the script; returns the exit status."""
    parse = parser("import_prunecxr.py", "Convert the original study's prediction pickles, once.",
                   "python experiments/import_prunecxr.py --pickles preds --dataset nih-cxr-lt")
    add = parse.add_argument
    add("--pickles", required=True, type=Path, help="the folder of .pkl files")
    add("--dataset", required=True, help="the names' beginning: nih-cxr-lt or mimic-cxr-lt")
    add("--test_labels", type=Path, help="label CSV of the test part (image and patient names; "
        "needed where pickles are arrays)")
    add("--train_labels", type=Path, help="label CSV of the training part (frequencies); without "
        "it those of the test part stand in")
    return run(parse, lambda arguments: print(convert(arguments)), argv)


def convert(arguments: argparse.Namespace) -> str:
    """Write the store; returns what to print."""
    found = find_pickles(arguments.pickles, arguments.dataset)
    labels = read_labels(arguments.test_labels) if arguments.test_labels else None
    train = read_labels(arguments.train_labels) if arguments.train_labels else None
    described = {name: value for name, value in vars(arguments).items()
                 if name not in ("output_path", "overwrite")}
    with RunFolder.open(arguments.output_path, described, overwrite=arguments.overwrite) as folder:
        images, probabilities = _first(found[0][3], labels, train, arguments.dataset)
        store = PredictionStore.create(folder.path / "predictions", images)
        for seed, series, sparsity, path in progress(found, "Converting", total=len(found)):
            original = sparsity == 0
            store.write(seed, "original" if original else f"{series}@{sparsity:g}",
                        probabilities(path), series="original" if original else series,
                        level=sparsity, attributes={"source": path.name})
    notes = [] if train else ["note: frequencies are those of the test part; give --train_labels"]
    return "\n".join([*notes, f"{len(found)} files of {len({one[0] for one in found})} seeds, "
                      f"{len(images.image_id)} images, {len(images.classes)} classes",
                      f"results  {arguments.output_path}"])


def _first(path: Path, labels, train, dataset: str
           ) -> tuple[SweepImages, Callable[[Path], NDArray]]:
    """What all files are about, told by the first; and how to read the others against it."""
    columns, array = read_frame(path)
    if array is not None:
        if labels is None:
            raise InputError(f"{path}: an array without class names; give --test_labels")
        image_id, patient_id, classes, truth = labels
    else:
        if "label" not in columns:
            raise InputError(f"{path}: has no column label; it has {', '.join(columns)}")
        classes = tuple(name for name in columns if name not in NOT_CLASSES)
        truth = _truth(columns["label"], classes, path)
        image_id = np.array([f"row{row:06d}" for row in range(len(truth))])
        patient_id = image_id
        if labels is not None:
            image_id, patient_id = labels[:2]
            places = [labels[2].index(name) if name in labels[2] else -1 for name in classes]
            if -1 in places or len(image_id) != len(truth) or not np.array_equal(
                    labels[3][:, places], truth):
                raise InputError(f"{path}: its labels are not those of --test_labels, row by row; "
                                 "give the file that these predictions were made for")
    if train is None:
        counts = cooccurrence(truth)
    else:
        missing = [name for name in classes if name not in train[2]]
        if missing:
            raise InputError(f"--train_labels: has no class {missing[0]}; it has "
                             f"{', '.join(train[2])}")
        counts = cooccurrence(train[3][:, [train[2].index(name) for name in classes]])
    images = SweepImages(image_id, patient_id, classes, truth.astype(np.float32), counts, dataset)

    def probabilities(other: Path) -> NDArray:
        found, array = read_frame(other)
        if array is None:
            if not {*classes, "label"} <= found.keys():
                raise InputError(f"{other}: has other columns than {path}: {', '.join(found)}")
            if len(found["label"]) != len(truth) or not np.array_equal(
                    _truth(found["label"], classes, other), truth):
                raise InputError(f"{other}: its labels differ from those of {path}: other images, "
                                 "or another order")
            array = np.stack([found[name] for name in classes], axis=1)
        array = np.asarray(array, np.float64)
        if array.shape == truth.shape and not ((array >= 0) & (array <= 1)).all():
            bad = int((~((array >= 0) & (array <= 1))).any(axis=1).sum())
            raise InputError(f"{other}: {bad} rows hold NaN or numbers outside 0 to 1")
        return array

    return images, probabilities


def _truth(labels: Sequence[str], classes: Sequence[str], path: Path) -> NDArray[np.float64]:
    place = {name: column for column, name in enumerate(classes)}
    truth = np.zeros((len(labels), len(classes)))
    for row, text in enumerate(labels):
        for name in filter(None, str(text).split("|")):
            if name not in place:
                raise InputError(f"{path}: row {row} is labelled {name!r}, which is no column")
            truth[row, place[name]] = 1
    return truth


if __name__ == "__main__":
    sys.exit(main())
