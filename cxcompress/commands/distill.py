"""`distill.py`: a small student taught by a trained network, beside the same student untaught."""

from __future__ import annotations

import argparse
import functools
import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from cxcompress.commands.command_line import parser, run, start_tensorflow
from cxcompress.commands.compress import class_names
from cxcompress.commands.data_flags import add_generated_flags, add_input_flags
from cxcompress.errors import InputError
from cxcompress.reporting.tables import number, text_table
from cxcompress.runs import RunFolder, WorkUnit

EXAMPLE = ("python experiments/distill.py --teacher vgg16.h5 --student vgg11_eighth "
           "--data_path chest_xray --temperature 4 --seeds 0 1 2")
METRICS = ("accuracy", "balanced_accuracy", "auroc_macro")
LABELS_ALONE = "labels alone"
ACTIVATIONS = {"multiclass": "softmax", "multilabel": "sigmoid"}


def build_parser() -> argparse.ArgumentParser:
    """The flags of `distill.py`."""
    parse = parser("distill.py", "Train a small student with a trained network's soft outputs "
                   "beside the labels, and the same student, from the same start and on the same "
                   "batches, on labels alone.", EXAMPLE)
    add = parse.add_argument
    add("--teacher", required=True, metavar="FILE", help="a trained .keras, .h5 or .hdf5 model")
    add("--student", default="small_cxr", help="a name of cxcompress.models.names(); it must have "
        "fewer parameters than the teacher (small_cxr)")
    add("--data_path", required=True, help="images, as for compress.py")
    add_generated_flags(parse)
    add("--temperature", type=float, default=4.0, help="what logits are divided by (4)")
    add("--alpha", type=float, default=0.7, help="weight of the teacher, 0 to 1 (0.7)")
    add("--epochs", type=int, default=30, help="epochs of each student (30)")
    add("--lr", type=float, default=1e-3, help="Adam's learning rate of the student (0.001)")
    add("--batch_size", type=int, default=64, help="images a step (64)")
    add("--augment", action="store_true", help="as for train.py: of students and pruned teachers")
    add("--seeds", nargs="+", type=int, default=[0], help="seeds of students (0)")
    add("--prune_teacher", nargs="+", type=float, default=[], metavar="FRACTION",
        help="prune-then-distill: also teach by the teacher pruned to these sparsities, a fraction "
        "from 0 to below 1 each")
    add("--strategy", default="iterative", help="how the teacher is pruned, as for prune.py "
        "(iterative)")
    add("--prune_epochs", type=int, default=10, help="epochs of tuning the pruned teacher (10)")
    add("--prune_lr", type=float, default=3e-4, help="learning rate of that (0.0003)")
    add_input_flags(parse)
    return parse


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; returns the exit status."""
    return run(build_parser(), lambda arguments: print(distill(arguments)), argv)


def distill(arguments: argparse.Namespace) -> str:
    """Teach, judge, write the run folder and return the table.

    Raises:
        InputError: If a flag, the model or the data cannot be used.
    """
    if not Path(arguments.teacher).is_file():
        raise InputError(f"--teacher {arguments.teacher}: no such file")
    for flag in ("epochs", "prune_epochs", "batch_size"):
        if getattr(arguments, flag) < 1:
            raise InputError(f"--{flag} {getattr(arguments, flag)}: must be at least 1")
    described = {name: value for name, value in vars(arguments).items()
                 if name not in ("output_path", "overwrite")}
    start_tensorflow()
    from cxcompress.pipeline.inputs import file_sha256
    from cxcompress.training.distillation import check_pair, check_settings

    check_settings(arguments.temperature, arguments.alpha)
    prunings = {f"pruned {sparsity:g}": _pruning(arguments, sparsity)
                for sparsity in arguments.prune_teacher}
    described["teacher_sha256"] = file_sha256(Path(arguments.teacher))
    notes: list[str] = []
    opened = functools.cache(lambda: _open(arguments, notes))
    path = Path(arguments.output_path) / "distill" / arguments.student
    with RunFolder.open(path, described, overwrite=arguments.overwrite,
                        extendable=("seeds", "prune_teacher")) as folder:
        teacher, study, _ = opened()
        check_pair(_student(arguments, study, 0), teacher)
        (path / "models").mkdir(exist_ok=True)
        common = {"opened": opened, "arguments": arguments, "models": path / "models"}
        teachers = {"teacher": None} | prunings
        units = [WorkUnit(f"teacher/{name}", _teacher, common | {"name": name, "pruning": pruning})
                 for name, pruning in teachers.items()]
        units += [WorkUnit(f"student/{name}/seed={seed}", _one_student,
                           common | {"teacher_name": name, "seed": seed})
                  for name in (LABELS_ALONE, *teachers) for seed in arguments.seeds]
        folder.run_units(units, "Distillation")
        found = folder.results()
        taught_by = [row for name, row in found.items() if name.startswith("teacher/")]
        students = [row for name, row in found.items() if name.startswith("student/")]
        summary = summarise(students)
        folder.write_csv("results_distill.csv", students)
        folder.write_csv("teachers.csv", taught_by)
        folder.write_json("results.json", folder.record | {
            "state": "done", "teachers": taught_by, "students": students, "summary": summary,
            "notes": notes})
    table = [{"network": f"teacher, {row['name']}" if row["name"] != "teacher" else "teacher",
              **_text(row)} for row in taught_by]
    table += [{"network": (f"student, {row['teacher']}" if row["teacher"] == LABELS_ALONE
                           else f"student, taught by {row['teacher']}")
               + f" ({row['runs']} seeds)", **_text(row)} for row in summary]
    return "\n".join([*(f"note: {note}" for note in dict.fromkeys(notes)), "",
                      text_table(table, right=("parameters", "nonzeros")), "",
                      f"models and results  {path}"])


def _pruning(arguments: argparse.Namespace, sparsity: float):
    from cxcompress.pipeline.pruning import Pruning

    return Pruning(arguments.strategy, sparsity, arguments.prune_epochs,
                   learning_rate=arguments.prune_lr, batch_size=arguments.batch_size,
                   augment=arguments.augment)


def _open(arguments: argparse.Namespace, notes: list[str]):
    """The teacher, its study, and the thresholds chosen for it on validation."""
    from cxcompress.pipeline import inputs

    model, card, _ = inputs.open_model(arguments.teacher)
    study = inputs.open_study(
        model, card, arguments.data_path, class_names(arguments.classes), arguments.preprocessing,
        arguments.data_seed, notes, arguments.count)
    if study.task.name not in ACTIVATIONS or study.collection.train is None or not study.labelled:
        raise InputError(f"--data_path {arguments.data_path}: needs a train part with labels of "
                         "classes")
    thresholds = card.thresholds if card is not None and card.thresholds else None
    return model, study, thresholds or study.thresholds(model, inputs.BATCH_SIZE)


def _student(arguments: argparse.Namespace, study, seed: int):
    import keras

    from cxcompress import models

    keras.utils.set_random_seed(seed)
    preprocessing = study.preprocessing
    return models.build(arguments.student, (*preprocessing.size, preprocessing.channels),
                        len(study.task.classes), activation=ACTIVATIONS[study.task.name])


def _teacher_file(models: Path, name: str) -> Path:
    return models / f"teacher-{name.replace(' ', '-')}.h5"


def _teacher(opened: Callable, arguments: argparse.Namespace, models: Path, name: str, pruning):
    from cxcompress import models as modelling
    from cxcompress.pipeline.pruning import prune_and_tune

    model, study, thresholds = opened()
    weights = modelling.weights(model)
    try:
        if pruning is not None:
            prune_and_tune(model, study, pruning, arguments.data_seed, arguments.teacher)
        row = _measured(model, study, thresholds)
        modelling.save_model(model, _teacher_file(models, name))
    finally:
        modelling.set_weights(model, weights)
    return {"name": name} | row


def _one_student(
    opened: Callable, arguments: argparse.Namespace, models: Path, teacher_name: str, seed: int
) -> dict[str, Any]:
    from cxcompress import models as modelling
    from cxcompress.data.augmentation import Augmentation
    from cxcompress.training import PartBatches
    from cxcompress.training.distillation import distil

    _, study, _ = opened()
    teacher = (None if teacher_name == LABELS_ALONE
               else modelling.load_model(_teacher_file(models, teacher_name)))
    student = _student(arguments, study, seed)
    train = PartBatches(study.collection.train, study.preprocessing, arguments.batch_size, seed,
                        Augmentation() if arguments.augment else None)
    val = PartBatches(study.collection.val, study.preprocessing, arguments.batch_size)
    history = distil(student, teacher, train, val, task=study.task.name,
                     temperature=arguments.temperature, alpha=arguments.alpha,
                     epochs=arguments.epochs, learning_rate=arguments.lr)
    row = _measured(student, study, study.thresholds(student, 32))
    file = models / f"student-{teacher_name.replace(' ', '-')}-seed{seed}.h5"
    modelling.save_model(student, file)
    return {"teacher": teacher_name, "seed": seed, "best_epoch": history["best_epoch"]} | row


def _measured(model, study, thresholds) -> dict[str, Any]:
    import numpy as np

    from cxcompress.commands.fine_tuning_study import validation_loss
    from cxcompress.evaluation import evaluate
    from cxcompress.models import kernels
    from cxcompress.pipeline.inputs import BATCH_SIZE

    part, name = study.judged_part("test", [])
    estimates = evaluate(study.record(model, part, BATCH_SIZE, "Test", thresholds),
                         thresholds=thresholds)
    row: dict[str, Any] = {
        "judged_on": name, "n": len(part), "parameters": model.count_params(),
        "nonzeros": sum(int(np.count_nonzero(kernel.variable)) for kernel in kernels(model)),
        "val_loss": validation_loss(model, study)}
    for metric in METRICS:
        row |= {metric: estimates[metric].value, f"{metric}_low": estimates[metric].low,
                f"{metric}_high": estimates[metric].high}
    return row


def summarise(rows: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Means over seeds, of values and of both ends of their intervals, and the seeds' range."""
    groups: dict[str, list[Mapping[str, Any]]] = {}
    for row in rows:
        groups.setdefault(row["teacher"], []).append(row)
    summary = []
    for teacher, members in sorted(groups.items(), key=lambda item: item[0] != LABELS_ALONE):
        line: dict[str, Any] = {"teacher": teacher, "runs": len(members)}
        for name, value in members[0].items():
            if name in ("seed", "n") or isinstance(value, str):
                continue
            values = [math.nan if row[name] is None else row[name] for row in members]
            line[name] = sum(values) / len(values)
            if name in METRICS:
                line[f"{name}_least"], line[f"{name}_most"] = min(values), max(values)
        summary.append(line | {"n": members[0]["n"], "judged_on": members[0]["judged_on"]})
    return summary


def _text(row: Mapping[str, Any]) -> dict[str, str]:
    text = {"parameters": f"{row['parameters']:,.0f}", "nonzeros": f"{row['nonzeros']:,.0f}"}
    for metric in METRICS:
        text[f"{metric} (95%; {row['n']} images)"] = (
            f"{number(row[metric])} ({number(row[f'{metric}_low'])} to "
            f"{number(row[f'{metric}_high'])})")
    return text | {"val loss": number(row["val_loss"], 4)}
