"""`reader_study.py`: make a reader study of exemplars and controls, and analyse its answers."""

from __future__ import annotations

import argparse
import csv
import dataclasses
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from cxcompress.commands.command_line import parser, run
from cxcompress.errors import InputError, MissingExtra
from cxcompress.reporting.tables import number, text_table
from cxcompress.runs import RunFolder

EXAMPLE = ("python experiments/reader_study.py make --exemplars results/exemplars/L1@0.9 "
           "--raters 6\n  python experiments/reader_study.py analyse --key "
           "results/reader_study/study/key.csv --answers rater*.csv")
LEAST_SIDE = 512
"""Pictures are enlarged, by a whole factor, to at least this many pixels."""


def build_parser() -> argparse.ArgumentParser:
    """The flags of `reader_study.py`."""
    parse = parser("reader_study.py", "make: as many exemplars as controls, shuffled and without "
                   "names, with a sheet for each reader that the VGG Image Annotator opens. "
                   "analyse: do readers find exemplars worse labelled, of worse quality, harder?",
                   EXAMPLE)
    add = parse.add_argument
    add("action", choices=("make", "analyse"), help="make a study, or analyse its answers")
    add("--exemplars", metavar="FOLDER", help="make: a run folder of exemplars.py")
    add("--count", type=int, default=20, help="make: exemplars, and controls (20)")
    add("--raters", type=int, default=6, help="make: sheets (6)")
    add("--data_path", help="make: images (as the sweep was given)")
    add("--key", help="analyse: the study's key.csv")
    add("--answers", nargs="+", metavar="FILE", help="analyse: a sheet a reader")
    add("--questions", nargs="+", default=[], metavar="QUESTION=ATTRIBUTE",
        help="analyse: names of agreement, quality and difficulty in file_attributes, where they "
        "are others")
    add("--permutations", type=int, default=9999, help="analyse: permutations of images (9999)")
    add("--resamples", type=int, default=1000,
        help="analyse: bootstrap draws of images and readers (1000)")
    return parse


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; returns the exit status."""
    return run(build_parser(), lambda arguments: print(
        make(arguments) if arguments.action == "make" else analyse(arguments)), argv)


def make(arguments: argparse.Namespace) -> str:
    """Choose images, write the study and return what to do next.

    Exemplars are drawn among all exemplars, controls among all other images; where they can, each
    control has the number of findings of one exemplar, so that the groups differ in agreement.

    Raises:
        InputError: If a flag is missing, or images are.
    """
    if not arguments.exemplars:
        raise InputError("make: give --exemplars, a run folder of exemplars.py")
    for name in ("count", "raters"):
        if getattr(arguments, name) < 1:
            raise InputError(f"--{name} {getattr(arguments, name)}: give at least 1")
    from cxcompress.commands.exemplars import open_pictures
    from cxcompress.reporting.exemplar_gallery import to_png
    from cxcompress.search.prediction_store import PredictionStore
    from cxcompress.search.reader_study_files import write_study

    source = Path(arguments.exemplars)
    rows = _exemplar_rows(source)
    record = json.loads((source / "run.json").read_text())["arguments"]
    store = PredictionStore.open(record["predictions"])
    chosen, controls = choose_images(rows, arguments.count, arguments.seed)
    described = {name: value for name, value in vars(arguments).items()
                 if name not in ("output_path", "overwrite")}
    path = Path(arguments.output_path) / "reader_study" / "study"
    with RunFolder.open(path, described, overwrite=arguments.overwrite) as folder:
        both = [*chosen, *controls]
        pictures = open_pictures(store, arguments.data_path or record.get("data_path"),
                                 [row["image_id"] for row in both])
        lacking = [row["image_id"] for row in both if row["image_id"] not in pictures]
        if lacking:
            raise InputError(f"{len(lacking)} of {len(both)} images are not found, e.g. "
                             f"{lacking[0]}; give --data_path with the collection of "
                             f"{store.path}")
        order = np.random.default_rng((arguments.seed, 7)).permutation(len(both))
        key, data, labels = [], {}, {}
        for place, position in enumerate(order, start=1):
            row, name = both[position], f"{place:03d}.png"
            data[name] = to_png(pictures[row["image_id"]], LEAST_SIDE)
            labels[name] = row["labels"].replace("|", ", ") or "none"
            key.append({"filename": name, "image_id": row["image_id"],
                        "group": "exemplar" if position < len(chosen) else "control",
                        "agreement": row["agreement"], "labels": row["labels"]})
        write_study(folder.path, data, labels, key, arguments.raters, arguments.seed)
    return "\n".join([
        f"{len(chosen)} exemplars and {len(controls)} controls as {path}/images/*.png",
        f"each reader opens images/ in the VGG Image Annotator, imports a sheet of their own "
        f"({path}/rater01.csv …) and via_attributes.json, answers, and exports annotations as csv",
        f"keep {path}/key.csv from the readers; analyse with: reader_study.py analyse --key "
        f"{path}/key.csv --answers …",
        *(["images are generated: readers' answers will say nothing about patients"]
          if store.images.synthetic else [])])


def _exemplar_rows(source: Path) -> list[dict[str, str]]:
    for name in ("exemplars.csv", "run.json"):
        if not (source / name).exists():
            raise InputError(f"--exemplars {source}: holds no {name}; give a run folder of "
                             "exemplars.py")
    with open(source / "exemplars.csv", newline="") as file:
        return list(csv.DictReader(file))


def choose_images(
    rows: Sequence[dict[str, str]], count: int, seed: int
) -> tuple[list[dict[str, str]], list[dict[str, str]]]:
    """As many exemplars as controls, matched in their number of labels where possible.

    Args:
        rows: Of `exemplars.csv`.
        count: Of each.
        seed: Of the draw.

    Raises:
        InputError: If there are not enough of either.
    """
    groups = [[row for row in rows if row["exemplar"] == flag] for flag in ("1", "0")]
    for name, group in zip(("exemplars", "other images"), groups, strict=True):
        if len(group) < count:
            raise InputError(f"--count {count}: there are {len(group)} {name}; give fewer, or run "
                             "exemplars.py with a larger --percent")
    random = np.random.default_rng((seed, 8))
    chosen = [groups[0][row] for row in random.permutation(len(groups[0]))[:count]]
    left = [groups[1][row] for row in random.permutation(len(groups[1]))]
    controls = []
    for row in chosen:
        match = next((place for place, other in enumerate(left)
                      if _label_count(other) == _label_count(row)), 0)
        controls.append(left.pop(match))
    return chosen, controls


def _label_count(row: dict[str, str]) -> int:
    return len([name for name in row["labels"].split("|") if name])


def analyse(arguments: argparse.Namespace) -> str:
    """Analyse the answers, write the run folder and return the tables.

    Raises:
        InputError: If a flag is missing or an answer cannot be used.
    """
    if not arguments.key or not arguments.answers:
        raise InputError("analyse: give --key and --answers")
    try:
        from cxcompress.evaluation.reader_study import alpha_interval, compare_groups
        from cxcompress.reporting import forgettability_figures as figures
        from cxcompress.search.reader_study_files import LEVELS, QUESTIONS, read_answers
    except ModuleNotFoundError as error:
        raise MissingExtra(error.name, "train") from error
    attributes = {name: name for name in QUESTIONS}
    for entry in arguments.questions:
        question, separator, attribute = entry.partition("=")
        if question not in QUESTIONS or not separator:
            raise InputError(f"--questions {entry}: write one of {', '.join(QUESTIONS)}, =, and "
                             "the attribute's name")
        attributes[question] = attribute
    described = {name: value for name, value in vars(arguments).items()
                 if name not in ("output_path", "overwrite")}
    answers = read_answers([Path(path) for path in arguments.answers], Path(arguments.key),
                           attributes)
    draws = {"permutations": arguments.permutations, "resamples": arguments.resamples,
             "seed": arguments.seed}
    path = Path(arguments.output_path) / "reader_study" / "analysis"
    with RunFolder.open(path, described, overwrite=arguments.overwrite) as folder:
        rows: list[dict[str, Any]] = []
        raw = {}
        for question, ratings in answers.ratings.items():
            alpha, low, high = alpha_interval(ratings, LEVELS[question],
                                              resamples=arguments.resamples, seed=arguments.seed)
            for scale, some in (("raw", ratings), ("z-scored per rater",
                                                   ratings.standardised())):
                found = compare_groups(some, **draws)
                if scale == "raw":
                    raw[question] = found
                rows.append({"question": question, "scale": scale,
                             "unanswered": answers.missing[question],
                             **dataclasses.asdict(found), "alpha": alpha, "alpha_low": low,
                             "alpha_high": high, "alpha_level": LEVELS[question]})
        folder.write_csv("results_reader_study.csv", rows)
        folder.write_json("results.json", folder.record | {
            "state": "done", "raters": answers.raters, "images": len(answers.images),
            "rows": rows})
        figures.reader_summary(path / "reader_summary", raw)
    few = [] if min(len(answers.raters), len(answers.images)) >= 6 else [
        f"note: {len(answers.raters)} readers and {len(answers.images)} images: intervals "
        "clustered by either are unreliable below about 6"]
    return "\n".join([
        *few, text_table([_text(row) for row in rows]), "",
        "difference, its interval and P: within readers, clustered by image and reader; "
        "permutation P exchanges whole images", "Welch, Mann-Whitney, Kruskal-Wallis: pooled "
        "answers as if independent, for comparison with earlier studies", f"results  {path}"])


def _text(row: dict[str, Any]) -> dict[str, str]:
    digits = 2
    return {
        "question": row["question"], "scale": row["scale"],
        "exemplars, mean (SD)":
            f"{number(row['exemplar_mean'], digits)} ({number(row['exemplar_sd'], digits)})",
        "controls, mean (SD)":
            f"{number(row['control_mean'], digits)} ({number(row['control_sd'], digits)})",
        "difference (95%)": f"{row['difference']:+.2f} ({number(row['low'], digits)} to "
                            f"{number(row['high'], digits)})",
        "P": number(row["p_clustered"], 4), "permutation P": number(row["p_permutation"], 4),
        "Welch": number(row["p_welch"], 4), "Mann-Whitney": number(row["p_mann_whitney"], 4),
        "Kruskal-Wallis": number(row["p_kruskal"], 4),
        "alpha (95%)": f"{number(row['alpha'], digits)} ({number(row['alpha_low'], digits)} to "
                       f"{number(row['alpha_high'], digits)})"}
