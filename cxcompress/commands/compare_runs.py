"""`compare_runs.py`: trained models side by side, on the test images that all of them saw."""

from __future__ import annotations

import argparse
import zipfile
from collections.abc import Sequence
from pathlib import Path

from cxcompress.commands.command_line import parser, run
from cxcompress.errors import InputError
from cxcompress.runs import RunFolder

EXAMPLE = ("cxcompress compare_runs --arms scratch=results/scratch/small_cxr-seeds "
           "synthetic=results/synthetic/small_cxr-seeds")


def build_parser() -> argparse.ArgumentParser:
    """The flags of `compare_runs.py`."""
    parse = parser("compare_runs.py", "Compare models by their predictions: means over seeds, "
                   "differences paired by image, and the verdict where each has one seed.", EXAMPLE)
    add = parse.add_argument
    add("--arms", nargs="+", required=True, metavar="NAME=FOLDER",
        help="runs of train.py or train_seeds.py (all seeds in them), or a predictions file; the "
        "first is what the others are compared with")
    add("--part", choices=("test", "val"), default="test", help="part that is compared (test)")
    add("--margin", type=float, default=0.02,
        help="non-inferiority margin of the verdict, absolute (0.02)")
    return parse


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; returns the exit status."""
    return run(build_parser(), lambda arguments: print(compare_runs(arguments)), argv)


def compare_runs(arguments: argparse.Namespace) -> str:
    """Read, compare, write the run folder, return what to print.

    Raises:
        InputError: If there are no predictions, or they are not of the same images.
    """
    from cxcompress.evaluation import compare
    from cxcompress.reporting.arms_report import write_arms_report

    pairs = [text.partition("=") for text in arguments.arms]
    if len(pairs) < 2 or not all(name and place for name, _, place in pairs):
        raise InputError("--arms: give at least two of NAME=FOLDER")
    if not 0 < arguments.margin < 1:
        raise InputError(f"--margin {arguments.margin:g}: must lie between 0 and 1, e.g. 0.02")
    arms = {name: _records(Path(place), arguments.part) for name, _, place in pairs}
    path = Path(arguments.output_path) / "compare_runs" / "-".join(arms)
    described = {name: value for name, value in vars(arguments).items()
                 if name not in ("output_path", "overwrite")}
    with RunFolder.open(path, described, overwrite=arguments.overwrite) as folder:
        try:
            text = write_arms_report(path, arms, seed=arguments.seed)
        except ValueError as error:
            raise InputError(f"--arms: cannot be compared: {error}") from error
        reference, *others = arms
        verdicts = []
        if all(len(records) == 1 for records in arms.values()):
            for name in others:
                comparison = compare(arms[reference][0], arms[name][0], margin=arguments.margin,
                                     seed=arguments.seed)
                verdicts.append(f"{name} against {reference}: {comparison.headline()}")
        folder.write_json("results.json", folder.record | {"state": "done", "verdicts": verdicts})
    return "\n".join([text, *verdicts, "", f"tables and figure  {path}"])


def _records(place: Path, part: str):
    from cxcompress.tasks import Predictions

    name = f"predictions_{part}.npz"
    files = [place] if place.is_file() else sorted([*place.glob(name), *place.glob(f"*/{name}")])
    if not files:
        raise InputError(f"--arms {place}: holds no {name}; give a run of train.py or "
                         "train_seeds.py")
    try:
        return [Predictions.load(file) for file in files]
    except (OSError, ValueError, KeyError, zipfile.BadZipFile) as error:
        raise InputError(f"--arms {place}: no predictions that can be read ({error})") from error
