"""`prune_sweep.py`: seeds × treatments of a network, every prediction stored once."""

from __future__ import annotations

import argparse
import functools
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cxcompress.commands.command_line import parser, run, start_tensorflow
from cxcompress.commands.data_flags import PREPROCESSINGS, add_generated_flags
from cxcompress.errors import InputError
from cxcompress.reporting.tables import byte_count, number, text_table
from cxcompress.runs import RunFolder, WorkUnit
from cxcompress.search.scheduling import LOCAL, NOT_COMPARED, add_scheduler_flags, workers
from cxcompress.search.treatments import ORIGINAL, Series, Treatment

if TYPE_CHECKING:
    import keras

    from cxcompress.pipeline.inputs import Study
    from cxcompress.search.prune_sweep import Sweep

EXAMPLE = ("python experiments/prune_sweep.py --data_path synthetic:cxr20 --seeds 30 "
           "--treatments L1 random uUQ L1+uCWS=256")
SPARSITIES = tuple(round(0.05 * step, 2) for step in range(1, 20))
LEVELS = (256, 128, 64, 32, 16, 8, 4, 2)
LISTS = ("treatments", "sparsities", "levels", "seeds", "nets")


def build_parser() -> argparse.ArgumentParser:
    """The flags of `prune_sweep.py`."""
    parse = parser("prune_sweep.py", "Train a network with several seeds (or open trained ones), "
                   "prune and quantise each to every level, and store what it then says of every "
                   "test image: what forgettability.py and exemplars.py read. A run with more "
                   "seeds or treatments adds to the results that the folder holds.", EXAMPLE)
    add = parse.add_argument
    add("--seeds", nargs="+", type=int, default=[5], metavar="N",
        help="one number: that many seeds, 0, 1, …; several: these very seeds (5)")
    add("--treatments", nargs="+", default=["L1"], metavar="NAME",
        help="L1, random (pruned to each sparsity, over all kernels together), L1-layer, "
        "random-layer (the same share of each kernel), uCWS, UQ, … (each number of shared values), "
        "L1+uCWS=256 (pruned, then shared), L1=0.5+uCWS (pruned to 0.5, then each number) (L1)")
    add("--sparsities", nargs="+", type=float, default=list(SPARSITIES), metavar="SHARE",
        help="shares of weights to prune; 0 is always there (0.05 0.1 … 0.95)")
    add("--levels", nargs="+", type=int, default=list(LEVELS), metavar="K",
        help=f"numbers of shared values ({' '.join(map(str, LEVELS))})")
    add("--nets", nargs="+", metavar="FILE", help="trained models, the first is seed 0, …; without "
        "them --model is trained for each seed")
    add("--model", default="small_cxr", help="a name of cxcompress.models.names() (small_cxr)")
    add("--data_path", default="synthetic:cxr20", help="as for compress.py (synthetic:cxr20)")
    add_generated_flags(parse)
    add("--size", type=int, default=64, help="height and width of the trained network's input (64)")
    add("--channels", type=int, default=1, choices=(1, 3), help="1 = grey, 3 = colour (1)")
    add("--epochs", type=int, default=15, help="most epochs of training (15)")
    add("--lr", type=float, default=1e-3, help="Adam's learning rate (0.001)")
    add("--batch_size", type=int, default=64, help="images a step (64)")
    add("--patience", type=int, default=6, help="epochs without improvement on validation before "
        "training stops (6)")
    add("--augment", action="store_true", help="as for train.py")
    add("--preprocessing", default="auto", choices=PREPROCESSINGS,
        help="with --nets: as for compress.py (auto)")
    add("--bn_statistics", default="keep", choices=("keep", "estimate"),
        help="estimate: BatchNormalization statistics are estimated again on training images after "
        "every treatment (keep)")
    add("--retrain_epochs", type=int, default=0,
        help="epochs of training after every treatment; pruned weights stay pruned (0)")
    add_scheduler_flags(parse)
    return parse


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; returns the exit status."""
    return run(build_parser(), lambda arguments: print(prune_sweep(arguments)), argv)


def prune_sweep(arguments: argparse.Namespace) -> str:
    """Run the sweep, write the run folder and return the table.

    Raises:
        InputError: If a flag, a model or the data cannot be used.
    """
    arguments.seeds = seeds_of(arguments.seeds, arguments.nets)
    treatments = treatments_of(arguments)
    for name, least in (("epochs", 1), ("retrain_epochs", 0), ("batch_size", 1)):
        if getattr(arguments, name) < least:
            raise InputError(f"--{name} {getattr(arguments, name)}: give at least {least}")
    described = {name: value for name, value in vars(arguments).items()
                 if name not in NOT_COMPARED}
    described["nets"] = list(arguments.nets or ())
    name = Path(arguments.nets[0]).stem if arguments.nets else arguments.model
    path = Path(arguments.output_path) / "prune_sweep" / name
    if arguments.scheduler != LOCAL:  # other machines see other working folders
        path = path.resolve()
        arguments.nets = arguments.nets and [str(Path(net).resolve()) for net in arguments.nets]
    text = json.dumps(vars(arguments) | {"path": str(path)})
    with RunFolder.open(path, described, overwrite=arguments.overwrite,
                        extendable=LISTS) as folder:
        sweep, notes = _sweep(text)
        sweep.store  # noqa: B018, here first: bad data are refused before workers start
        with workers(arguments.scheduler, arguments.workers) as pool:
            # Originals first: they train the networks that the treatments open.
            for wanted in ([ORIGINAL], treatments):
                folder.run_units([
                    WorkUnit(f"seed={seed}/{treatment.name}", _treated,
                             {"sweep": text, "seed": seed, "treatment": treatment})
                    for seed in arguments.seeds for treatment in wanted],
                    "Originals" if wanted == [ORIGINAL] else "Sweep", pool)
        _sweep.cache_clear()
        rows = sorted(folder.results().values(), key=lambda row: row["seed"])
        originals = [row for row in rows if row["treatment"] == "original"]
        common = ("seed", "treatment", "series", "level", "bytes", "space_ratio", "sparsity")
        folder.write_csv("results_prune_sweep.csv", [
            {key: row[key] for key in common} for row in rows])
        folder.write_csv("originals.csv", originals)
        folder.write_json("results.json", folder.record | {
            "state": "done", "rows": rows, "notes": notes})
    return "\n".join([*(f"note: {note}" for note in notes), "",
                      text_table([_text(row) for row in originals]), "",
                      f"{len(rows)} predictions of {len(originals)} seeds", f"results  {path}"])


def seeds_of(given: Sequence[int], nets: Sequence[str] | None) -> list[int]:
    """Seeds as the flag says them: one number is a count, several are seeds; nets are 0, 1, ….

    Raises:
        InputError: If a seed is negative or repeats, or a network is no file.
    """
    if nets:
        for net in nets:
            if not Path(net).is_file():
                raise InputError(f"--nets {net}: no such file")
        return list(range(len(nets)))
    if len(given) == 1:
        if given[0] < 1:
            raise InputError(f"--seeds {given[0]}: give the number of seeds, 1 or more")
        return list(range(given[0]))
    if min(given) < 0 or len(set(given)) < len(given):
        raise InputError(f"--seeds {' '.join(map(str, given))}: give different seeds of 0 or more")
    return list(given)


def treatments_of(arguments: argparse.Namespace) -> list[Treatment]:
    """All treatments that the flags ask for.

    Raises:
        InputError: If one cannot be read.
    """
    return [treatment for name in dict.fromkeys(arguments.treatments)
            for treatment in Series.parse(name).treatments(arguments.sparsities,
                                                           arguments.levels)]


@functools.lru_cache(maxsize=1)
def _sweep(text: str) -> tuple[Sweep, list[str]]:
    """The sweep that JSON arguments describe, opened once a process, and what it has to say."""
    arguments = argparse.Namespace(**json.loads(text))
    start_tensorflow()
    from cxcompress.search.prune_sweep import Sweep, SweepSettings

    notes: list[str] = []
    path = Path(arguments.path)
    opened = functools.cache(lambda: _open_study(arguments, notes))
    return Sweep(path, opened, _networks(arguments, path, opened), SweepSettings(
        arguments.bn_statistics, arguments.retrain_epochs, arguments.lr,
        arguments.batch_size)), notes


def _treated(sweep: str, seed: int, treatment: Treatment) -> dict[str, Any]:
    """A work unit: one network under one treatment."""
    return _sweep(sweep)[0].one(seed, treatment)


def _open_study(arguments: argparse.Namespace, notes: list[str]) -> Study:
    from cxcompress.data import open_collection
    from cxcompress.images import Preprocessing
    from cxcompress.pipeline import inputs
    from cxcompress.tasks import get as get_task

    if arguments.nets:
        model, card, _ = inputs.open_model(arguments.nets[0])
        return inputs.open_study(model, card, arguments.data_path, None, arguments.preprocessing,
                                 arguments.data_seed, notes, arguments.count)
    collection = inputs.open_with_validation(
        open_collection(arguments.data_path, size=arguments.size, channels=arguments.channels,
                        count=arguments.count, seed=arguments.data_seed),
        arguments.data_seed, notes)
    if collection.task not in ("multiclass", "multilabel") or collection.train is None:
        raise InputError(f"--data_path {arguments.data_path}: needs a train part with class labels")
    return inputs.Study(
        collection, get_task(collection.task, collection.classes),
        Preprocessing.preset("0-1", (arguments.size, arguments.size), arguments.channels))


def _networks(
    arguments: argparse.Namespace, path: Path, opened: Callable[[], Study]
) -> Callable[[int], keras.Model]:
    """From a seed to its network."""
    from cxcompress.data.augmentation import Augmentation
    from cxcompress.pipeline import inputs
    from cxcompress.search.prune_sweep import trained_network

    if arguments.nets:
        return lambda seed: inputs.open_model(arguments.nets[seed])[0]
    return lambda seed: trained_network(
        seed, path / "models" / f"seed={seed}.keras", arguments.model, arguments.size,
        arguments.channels, opened(), epochs=arguments.epochs, learning_rate=arguments.lr,
        batch_size=arguments.batch_size, patience=arguments.patience,
        augmentation=Augmentation() if arguments.augment else None)


def _text(row: dict) -> dict[str, str]:
    text = {"seed": str(row["seed"]), "original": byte_count(row["bytes"])}
    for key, label in (("auroc_macro", "AUROC"), ("average_precision_macro", "average precision")):
        value, low, high = (number(row[f"{key}_{part}"]) for part in ("value", "low", "high"))
        text[f"{label} (95%, n = {row[f'{key}_n']})"] = f"{value} ({low} to {high})"
    return text
