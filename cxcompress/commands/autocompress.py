"""`autocompress.py`: the smallest file that is not inferior, by search; judged on test once."""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from cxcompress.commands.command_line import parser, run, start_tensorflow
from cxcompress.commands.compress import class_names, write_results
from cxcompress.commands.data_flags import add_generated_flags, add_input_flags
from cxcompress.errors import InputError
from cxcompress.quantization.compression import QUANTIZERS
from cxcompress.reporting.tables import byte_count, number, text_table
from cxcompress.runs import RunFolder
from cxcompress.search.scheduling import LOCAL, NOT_COMPARED, add_scheduler_flags, workers

EXAMPLE = ("python experiments/autocompress.py --net model.h5 --data_path chest_xray "
           "--margin 0.02 --trials 48 --epochs 12")
SHOWN = 12
"""Rows of the printed table at most."""


def build_parser() -> argparse.ArgumentParser:
    """The flags of `autocompress.py`."""
    parse = parser("autocompress.py", "Search quantisers, shared values, pruning, sensitivity, "
                   "fine-tuning (and dropped blocks) for the smallest file whose every class is "
                   "non-inferior on validation images, and judge that one on test images, once.",
                   EXAMPLE)
    add_bench_flags(parse)
    add = parse.add_argument
    add("--max_bytes", type=int, metavar="N", help="largest file, execution plans included (any)")
    add("--max_latency_ms", type=float, metavar="T", help="longest time of one image on this "
        "machine, without TensorFlow, by the fastest plan (any)")
    add("--trials", type=int, default=48, help="candidates that are screened (48)")
    add("--screen_images", type=int, default=512,
        help="validation images of the screens, at most; all afterwards (512)")
    add("--epochs", type=int, default=12,
        help="most epochs of fine-tuning of the last candidates; 0 never fine-tunes (12)")
    add("--learning_rate", type=float, default=1e-3, help="as for compress.py (0.001)")
    add("--lr_cumulative", type=float, default=1e-3, help="as for compress.py (0.001)")
    add("--quantizers", nargs="+", choices=QUANTIZERS, default=["UQ", "CWS", "ECSQ", "TCQ"],
        metavar="NAME", help="to choose from (UQ CWS ECSQ TCQ)")
    add("--levels", nargs="+", type=int, default=[256, 128, 64, 32, 16, 8, 4], metavar="K",
        help="numbers of shared values to choose from (256 128 64 32 16 8 4)")
    add("--pruned", nargs="+", type=int, default=[0, 30, 50, 70, 80, 90], metavar="PERCENT",
        help="percentages to choose from (0 30 50 70 80 90)")
    add("--dropped", nargs="+", type=int, default=[], metavar="BLOCKS",
        help="numbers of last blocks that may be dropped, trained anew then (none)")
    add("--storage", metavar="URL", help="database of Optuna, e.g. of several searches together "
        "(SQLite in the run folder)")
    return parse


def add_bench_flags(parse: argparse.ArgumentParser) -> None:
    """Flags of every search: the model, its data, the margin, who works."""
    add = parse.add_argument
    add("--net", required=True, help="a .keras, .h5 or .hdf5 model")
    add("--data_path", required=True, help="images with train, val and test parts, as for "
        "compress.py")
    add_generated_flags(parse)
    add_input_flags(parse)
    add("--margin", type=float, default=0.02,
        help="non-inferiority margin, absolute, in the metric's units (0.02)")
    add("--unshared", choices=("compact", "exact"), default="compact", help="biases and "
        "BatchNormalization of every candidate, as for compress.py (compact)")
    add("--minibatch", type=int, default=32, help="images a step of fine-tuning (32)")
    add("--ptnc", type=int, default=5, help="fine-tuning: epochs without improvement before it "
        "stops (5)")
    add("--augment", action="store_true", help="as for compress.py")
    add("--crop", type=int, metavar="PIXELS", help="as for compress.py (whole fields)")
    add_scheduler_flags(parse)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; returns the exit status."""
    return run(build_parser(), lambda arguments: print(autocompress(arguments)), argv)


def autocompress(arguments: argparse.Namespace) -> str:
    """Search, judge the recommended file, write the run folder and return the text.

    Raises:
        InputError: If a flag, the model or the data cannot be used, or nothing meets the margin.
    """
    from cxcompress.search.smallest_file import Settings, SmallestFile, Space

    check_bench_flags(arguments)
    for name, least in (("trials", 1), ("screen_images", 1), ("epochs", 0)):
        if getattr(arguments, name) < least:
            raise InputError(f"--{name} {getattr(arguments, name)}: give at least {least}")
    space = Space(tuple(arguments.quantizers), levels=tuple(arguments.levels),
                  pruned=tuple(dict.fromkeys([0, *arguments.pruned])),
                  dropped=tuple(dict.fromkeys([0, *arguments.dropped])))
    for percent in space.pruned:
        if not 0 <= percent < 100:
            raise InputError(f"--pruned {percent}: percent, 0 or more, below 100")
    for k in space.levels:
        if k < 2:
            raise InputError(f"--levels {k}: give 2 or more shared values")
    limit = arguments.max_latency_ms
    settings = Settings(
        arguments.trials, arguments.screen_images, arguments.epochs, arguments.learning_rate,
        arguments.lr_cumulative, arguments.max_bytes, None if limit is None else limit / 1000,
        arguments.seed, arguments.storage)
    path = Path(arguments.output_path) / "autocompress" / Path(arguments.net).stem
    return run_search(arguments, path, lambda bench, folder, pool: SmallestFile(
        bench, folder, space, settings).run(pool))


def check_bench_flags(arguments: argparse.Namespace) -> None:
    """Refuse what no search can use.

    Raises:
        InputError: If a flag cannot be used.
    """
    if not Path(arguments.net).is_file():
        raise InputError(f"--net {arguments.net}: no such file")
    if not 0 < arguments.margin < 1:
        raise InputError(f"--margin {arguments.margin:g}: must lie between 0 and 1, e.g. 0.02")


def run_search(arguments: argparse.Namespace, path: Path, search) -> str:
    """What every search does around its candidates.

    Args:
        arguments: With the flags of `add_bench_flags`.
        path: The run folder.
        search: `search(bench, folder, pool)` measures candidates and returns their rows.

    Raises:
        InputError: If nothing can be recommended; tables and figure are written all the same.
    """
    described = {name: value for name, value in vars(arguments).items()
                 if name not in NOT_COMPARED}
    start_tensorflow()
    from cxcompress.pipeline.inputs import file_sha256
    from cxcompress.reporting.search_figures import bytes_and_shortfall
    from cxcompress.search.smallest_file import (
        bench_of,
        front,
        judged_on_all,
        nearest,
        recommended,
        remove_intermediate,
    )

    described["net_sha256"] = file_sha256(Path(arguments.net))
    net = arguments.net
    if arguments.scheduler != LOCAL:  # other machines see other working folders
        net, path = str(Path(net).resolve()), path.resolve()
    bench_text = json.dumps({
        "net": net, "data_path": arguments.data_path, "folder": str(path),
        "count": arguments.count, "data_seed": arguments.data_seed,
        "preprocessing": arguments.preprocessing, "classes": class_names(arguments.classes),
        "margin": arguments.margin, "batch_size": arguments.minibatch,
        "patience": arguments.ptnc, "seed": arguments.seed, "unshared": arguments.unshared,
        "augment": arguments.augment, "crop": arguments.crop})
    started = time.perf_counter()
    with RunFolder.open(path, described, overwrite=arguments.overwrite) as folder:
        bench = bench_of(bench_text)  # here first: bad data are refused before workers start
        with workers(arguments.scheduler, arguments.workers) as pool:
            rows = search(bench_text, folder, pool)
        seconds = time.perf_counter() - started
        all_images = judged_on_all(rows)
        best = recommended(rows)
        on_front = [id(row) for row in front([row for row in all_images if row["allowed"]])]
        table = [_row(row, id(row) in on_front, row is best) for row in rows]
        folder.write_csv("candidates.csv", table)
        bytes_and_shortfall(path / "candidates", table, arguments.margin,
                            len(bench.val), bench.study.task.name)
        lines = [*(f"note: {note}" for note in bench.notes), "",
                 f"{len(table)} candidates measured in {seconds:.0f} s on {len(bench.val)} "
                 f"validation images of {bench.study.collection.title}", "",
                 text_table(_shown(table), right=("bytes", "shortfall")), ""]
        record = folder.record | {"state": "done", "candidates": table, "seconds": seconds,
                                  "recommended": None if best is None else best["name"]}
        if best is not None:
            lines += _judge(bench, folder, best, rows, record)
        folder.write_json("results.json", record)
        remove_intermediate(path)
    lines += [f"candidates  {path}/candidates.csv and .png", f"results     {path}"]
    if best is None:
        row = nearest(rows)
        print("\n".join(lines))
        limits = "" if row["allowed"] else ", and is larger or slower than allowed"
        raise InputError(
            f"--margin {arguments.margin:g}: none of {len(table)} candidates is non-inferior on "
            f"validation; the nearest, {row['name']} of {byte_count(row['file_bytes'])}, misses "
            f"by {row['shortfall_alone']:.4f} in {row['worst']}{limits}; give a larger margin, "
            "more --trials or --epochs, or wider limits, and --overwrite")
    return "\n".join(lines)


def _judge(bench, folder: RunFolder, best: Mapping[str, Any], rows, record) -> list[str]:
    """Judge the recommended candidate on test, write it, and say what it gains and gives up."""
    from cxcompress.pipeline.compressing import judge_container
    from cxcompress.pipeline.unshared_weights import COMPACT_NOTE
    from cxcompress.search.candidates import Candidate
    from cxcompress.storage import read_container

    candidate = Candidate(**best["candidate"])
    notes = [f"chosen on validation among {len(rows)} candidates: {best['name']}"]
    if not best["feasible"]:
        notes.append("on validation it is non-inferior taken alone, but not with intervals widened "
                     "for the choice among so many: no candidate is; expect less on test")
    if best["undecidable"]:
        notes.append("validation images could not decide " + ", ".join(best["undecidable"])
                     + ": there only a fall by more than the margin was excluded")
    if bench.unshared == "compact":
        notes.append(COMPACT_NOTE)
    result = judge_container(
        read_container(bench.container(candidate)), bench.prepared(candidate)[0], bench.model,
        bench.study, margin=bench.margin, batch_size=bench.batch_size, seed=bench.seed,
        notes=[*bench.notes, *notes])
    file = folder.path / "recommended" / f"{folder.path.name}-recommended.h5"
    sizes = result.save(file, coder="smallest", overwrite=True)
    inner = RunFolder(file.parent, folder.record | {
        "arguments": _arguments(folder.record["arguments"], candidate, best["best_epoch"])})
    text = write_results(inner, result, sizes, file, bench.provenance["net_bytes"])
    inner.write_json("run.json", inner.record | {"state": "done"})
    usual = next((row for row in rows if row["candidate"]["compression"] == "uCWS"
                  and row["candidate"]["k"] == 256 and not row["candidate"]["pruned"]), None)
    record |= {"file": str(file.relative_to(folder.path)), "sizes": sizes,
               "verdict": result.comparison.headline(),
               "comparison": result.comparison.to_dict(),
               "bytes_of_uCWS_256": None if usual is None else usual["file_bytes"]}
    gain = "" if usual is None or usual["file_bytes"] <= best["file_bytes"] else (
        f", {usual['file_bytes'] / sizes.total:.2f} times smaller than uCWS with 256 shared values "
        f"({byte_count(usual['file_bytes'])})")
    return [f"recommended: {best['name']}: {byte_count(sizes.total)}{gain}", "", text, ""]


def _arguments(searched: Mapping[str, Any], candidate, best_epoch: int) -> dict[str, Any]:
    """What `compress.py` would be told for the recommended file, from the search's arguments."""
    kept = ("net", "net_sha256", "data_path", "count", "data_seed", "preprocessing", "classes",
            "margin", "seed", "unshared")
    said = {name: searched[name] for name in kept if searched.get(name) is not None}
    if not best_epoch:  # good enough without: it was not fine-tuned
        candidate = candidate.untuned
    tuning = {}
    if candidate.epochs:
        tuning = {name: searched[name] for name in ("minibatch", "ptnc")} | {
            name: searched[name] for name in ("augment", "crop") if searched[name]}
    return said | candidate.flags | tuning | (
        {"dropped": candidate.dropped} if candidate.dropped else {})


def _row(row: Mapping[str, Any], on_front: bool, best: bool) -> dict[str, Any]:
    flat = {name: value for name, value in row.items() if name not in ("candidate", "undecidable")}
    return {"name": flat.pop("name"), "stage": flat.pop("stage"), **flat,
            "undecidable": " ".join(row["undecidable"]), "front": on_front, "recommended": best}


def _shown(table: Sequence[Mapping[str, Any]]) -> list[dict[str, str]]:
    """The front, and what comes next, smallest first."""
    rows = sorted((row for row in table if row["stage"]),
                  key=lambda row: (not row["front"], row["bytes"]))[:SHOWN]
    return [{"candidate": row["name"], "bytes": byte_count(row["file_bytes"]),
             "shortfall": f"{row['shortfall']:+.4f}", "worst": row["worst"],
             "epochs": number(row["best_epoch"], 1),
             "": "recommended" if row["recommended"] else "front" if row["front"] else ""}
            for row in sorted(rows, key=lambda row: row["bytes"])]
