"""`grid_search.py`: every combination of a grid, chosen on validation, judged on test."""

from __future__ import annotations

import argparse
import dataclasses
import itertools
from collections.abc import Sequence
from pathlib import Path

from cxcompress.commands.autocompress import add_bench_flags, check_bench_flags, run_search
from cxcompress.commands.command_line import parser, run
from cxcompress.errors import InputError
from cxcompress.runs import WorkUnit

EXAMPLE = ("python experiments/grid_search.py --net model.h5 --data_path chest_xray "
           "--compressions uCWS uUQ uECSQ --levels 256 32 2 --learning_rates 1e-3 1e-4 "
           "--epochs 30")


def build_parser() -> argparse.ArgumentParser:
    """The flags of `grid_search.py`."""
    parse = parser("grid_search.py", "Measure every combination of quantiser, number of shared "
                   "values, pruning, λ and learning rates on validation images; judge the smallest "
                   "file that is non-inferior there on test images, once.", EXAMPLE)
    add_bench_flags(parse)
    add = parse.add_argument
    add("--compressions", nargs="+", default=["uCWS", "uPWS", "uUQ", "uECSQ"], metavar="NAME",
        help="as --compression of compress.py, without pr (uCWS uPWS uUQ uECSQ)")
    add("--levels", nargs="+", type=int, default=[256, 128, 64, 32, 16, 2], metavar="K",
        help="numbers of shared values (256 128 64 32 16 2)")
    add("--lambdas", nargs="+", type=float, default=[], metavar="λ",
        help="ECSQ: weights of the rate, instead of finding it for K levels")
    add("--pruned", nargs="+", type=float, default=[0], metavar="PERCENT",
        help="percent of every kernel's weights that are pruned first (0)")
    add("--epochs", nargs="+", type=int, default=[0], help="most epochs of fine-tuning (0)")
    add("--learning_rates", nargs="+", type=float, default=[1e-3], metavar="RATE",
        help="of biases, BatchNormalization and latent weights (0.001)")
    add("--lr_cumulatives", nargs="+", type=float, default=[1e-3], metavar="RATE",
        help="of the shared values (0.001)")
    add("--assign", choices=("fixed", "learned"), default="learned",
        help="as for compress.py (learned)")
    return parse


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; returns the exit status."""
    return run(build_parser(), lambda arguments: print(grid_search(arguments)), argv)


def grid_search(arguments: argparse.Namespace) -> str:
    """Measure the grid, judge the recommended file, write the run folder and return the text.

    Raises:
        InputError: If a flag, the model or the data cannot be used, or nothing meets the margin.
    """
    check_bench_flags(arguments)
    candidates = candidates_of(arguments)

    def search(bench, folder, pool):
        from cxcompress.search.smallest_file import measure, prepare_network

        network = folder.run_units([WorkUnit("network/dropped=0", prepare_network,
                                             {"bench": bench, "dropped": 0})], "Network", pool)
        found = folder.run_units([
            WorkUnit(candidate.name, measure, {"bench": bench, "images": None,
                                               "among": len(candidates),
                                               "candidate": dataclasses.asdict(candidate)})
            for candidate in candidates], "Grid", pool)
        plans = network["network/dropped=0"]
        return [row | {"stage": 1, "allowed": True, "seconds_an_image": plans["fastest"],
                       "file_bytes": row["bytes"] + plans["plan_bytes"]}
                for row in found.values()]

    path = Path(arguments.output_path) / "grid_search" / Path(arguments.net).stem
    return run_search(arguments, path, search)


def candidates_of(arguments: argparse.Namespace) -> list:
    """The grid, combinations that are the same left out: rates matter where something trains.

    Raises:
        InputError: If a value cannot be used.
    """
    from cxcompress.search.candidates import Candidate

    found = []
    for name, k, pruned, epochs, rate, cumulative in itertools.product(
            arguments.compressions, arguments.levels, arguments.pruned, arguments.epochs,
            arguments.learning_rates, arguments.lr_cumulatives):
        if name.endswith("TCQ"):
            raise InputError(f"--compressions {name}: TCQ has no grid of shared values; "
                             "autocompress.py searches its signal-to-noise ratio")
        if epochs < 0 or not (rate > 0 and cumulative > 0):
            raise InputError(f"--epochs {epochs} with rates {rate:g} and {cumulative:g}: epochs "
                             "of 0 or more, rates above 0")
        tuning = {} if not epochs else {
            "epochs": epochs, "learning_rate": rate, "lr_cumulative": cumulative,
            "assign": arguments.assign}
        for lambd in (arguments.lambdas if name.endswith("ECSQ") else ()) or (None,):
            candidate = Candidate(name, k=k, pruned=pruned, lambd=lambd, **tuning)
            candidate.parsed  # noqa: B018, refuses what contradicts itself before work starts
            found.append(candidate)
    return list(dict.fromkeys(found))
