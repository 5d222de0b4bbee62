"""`train_seeds.py`: train a network with several seeds, and keep the one best on validation."""

from __future__ import annotations

import argparse
import copy
import json
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from cxcompress.commands.command_line import parser, run
from cxcompress.commands.train import WATCHED, add_training_flags, train
from cxcompress.reporting.tables import number, text_table
from cxcompress.runs import RunFolder, WorkUnit, atomic_path

EXAMPLE = ("python experiments/train_seeds.py --seeds 0 1 2 3 4 --model small_cxr "
           "--data_path medmnist:pneumoniamnist --size 28 --augment")


def build_parser() -> argparse.ArgumentParser:
    """The flags of `train_seeds.py`: those of `train.py`, and `--seeds`."""
    parse = parser("train_seeds.py", "Train a built-in network with several seeds; the one best "
                   "on validation (--stop_on) is kept, and all are judged on the test part.",
                   EXAMPLE)
    add_training_flags(parse)
    parse.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2, 3, 4],
                       help="seeds of training (0 1 2 3 4); generated images depend on --data_seed")
    return parse


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; returns the exit status."""
    return run(build_parser(), lambda arguments: print(train_seeds(arguments)), argv)


def train_seeds(arguments: argparse.Namespace) -> str:
    """Train, write the run folder and return the table.

    Raises:
        InputError: If a flag or the data cannot be used.
    """
    if arguments.data_seed is None:
        arguments.data_seed = arguments.seed
    described = {name: value for name, value in vars(arguments).items()
                 if name not in ("output_path", "overwrite")}
    path = Path(arguments.output_path) / f"{arguments.model}-seeds"
    with RunFolder.open(path, described, overwrite=arguments.overwrite) as folder:
        units = [WorkUnit(f"seed={seed}", _one_seed, {"arguments": arguments, "seed": seed,
                                                      "path": path})
                 for seed in arguments.seeds]
        rows = list(folder.run_units(units, "Seeds").values())
        sign = 1 if rows[0]["watched"] == "val_loss" else -1
        best = min(rows, key=lambda row: sign * row["best"])
        metric = best["metric"]
        mean = sum(row["test"] for row in rows) / len(rows)
        for suffix in (".h5", ".card.json"):
            source = path / f"{arguments.model}-seed{best['seed']}" / f"{arguments.model}{suffix}"
            with atomic_path(path / f"{arguments.model}{suffix}") as temporary:
                shutil.copyfile(source, temporary)
        folder.write_csv("seeds.csv", rows)
        folder.write_json("results.json", folder.record | {
            "state": "done", "seeds": rows, "kept": best["seed"], "metric": metric,
            "test_mean": mean})
    table = [{"seed": str(row["seed"]) + (" (kept)" if row is best else ""),
              "epochs": str(row["epochs"]), "validation loss": number(row["val_loss"], 4),
              f"val {metric}": number(row["val"]),
              f"test {metric} (95% interval, n = {row['n']})":
                  f"{number(row['test'])} ({number(row['low'])} to {number(row['high'])})"}
             for row in rows]
    return "\n".join([text_table(table), "",
                      f"mean test {metric} of {len(rows)} seeds: {number(mean, 4)}",
                      f"model  {path}/{arguments.model}.h5"])


def _ended(folder: Path) -> bool:
    try:
        return json.loads((folder / "run.json").read_text())["state"] == "done"
    except (OSError, ValueError, KeyError):
        return False


def _one_seed(arguments: argparse.Namespace, seed: int, path: Path) -> dict[str, Any]:
    chosen = copy.copy(arguments)
    folder = path / f"{arguments.model}-seed{seed}"
    # A seed that was interrupted goes on after its last epoch. One that ended but was not counted
    # is trained again.
    chosen.seed, chosen.output_path, chosen.overwrite = seed, path, _ended(folder)
    del chosen.seeds
    train(chosen)
    results = json.loads((folder / "results.json").read_text())
    metric = "auroc_macro" if "auroc_macro" in results["test"] else "f1_macro"
    test = results["test"][metric]
    watched = WATCHED[arguments.stop_on]
    history = results["history"]
    epoch = results["best_epoch"]
    if epoch is None:
        epoch = min(range(len(history["val_loss"])), key=history["val_loss"].__getitem__)
    return {"seed": seed, "metric": metric, "watched": watched, "best": history[watched][epoch],
            "epochs": len(history["val_loss"]),
            "val_loss": history["val_loss"][epoch],
            "val": results["val"][metric]["value"], "test": test["value"], "low": test["low"],
            "high": test["high"], "n": test["n"]}
