"""Tasks: from a model's raw outputs to findings, and to the records that all metrics read.

    task = tasks.get("multiclass", ("covid", "normal"))
    findings = task.findings(outputs)
    record = task.record(outputs, labels, image_id, patient_id)
"""

from __future__ import annotations

from collections.abc import Sequence

from cxcompress.errors import InputError
from cxcompress.tasks.cell_matches import CellMatches
from cxcompress.tasks.findings import Findings
from cxcompress.tasks.multiclass import MulticlassTask
from cxcompress.tasks.multilabel import MultilabelTask
from cxcompress.tasks.nuclei import NucleiTask
from cxcompress.tasks.predictions import Predictions

__all__ = ["CellMatches", "Findings", "MulticlassTask", "MultilabelTask", "NucleiTask",
           "Predictions", "Task", "get"]

Task = MulticlassTask | MultilabelTask | NucleiTask

TASKS = {task.name: task for task in (MulticlassTask, MultilabelTask, NucleiTask)}


def get(
    name: str, classes: Sequence[str], from_logits: bool | None = None
) -> Task:
    """The task of a name.

    Args:
        name: `"multiclass"`, `"multilabel"` or `"nuclei"`.
        classes: Class names in the order of the model's outputs.
        from_logits: Whether the model gives logits; None guesses from the numbers.

    Raises:
        InputError: If no task has this name.
    """
    if name not in TASKS:
        raise InputError(f"no task is named {name!r}; choose one of {', '.join(sorted(TASKS))}")
    return TASKS[name](tuple(classes), from_logits)
