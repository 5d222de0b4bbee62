"""Pruning while `model.fit` runs, as a schedule of tensorflow-model-optimization says.

    schedule = tfmot.sparsity.keras.PolynomialDecay(0.0, 0.9, begin_step=0, end_step=2_000)
    model.fit(images, labels, epochs=10, callbacks=[PruneDuringTraining(schedule)])

A `PruningSchedule` is a plain function `schedule(step) -> (update?, sparsity)`, so any such
function will do: `lambda step: (step == 0, 0.5)` prunes one half before the first step.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from cxcompress.errors import InputError
from cxcompress.pruning import masks as masking
from cxcompress.pruning import scores as scoring
from cxcompress.pruning.holding import HoldMasks
from cxcompress.pruning.scopes import groups, prunable_kernels

Schedule = Callable[[int], tuple[bool, float]]


class PruneDuringTraining(HoldMasks):
    """Prunes a model in training; use it with `model.fit` and any optimiser.

    Sparsity only grows: what is pruned stays pruned. When training ends, the sparsity is exactly
    the schedule's at the last step, also where the schedule's own turns (every 100 steps by
    tfmot's default) miss it.

    Args:
        schedule: From the step, counted from 0 over all epochs, to whether masks are renewed and
            the sparsity then. The end of a schedule that has `end_step` is always a turn.
        score: What is kept: `"magnitude"`, `"random"`, or a function as in `scores`.
        scope: `"global"`, `"layer"` or `"group"`: which kernels share a threshold.
        exclude: Layers that are not pruned, by name or path, or a family of kernels.
        seed: Of random scores.
        state_file: Where masks and step are kept after every epoch, so that an interrupted
            training goes on to the same result; put `keras.callbacks.BackupAndRestore`, which
            restores weights and optimiser, in front of this callback. Removed at the end.

    Attributes:
        masks: By kernel path, once pruning has begun.
        step: Training steps done.

    Raises:
        InputError: If the schedule ends before it begins or leaves [0, 1), the score, scope or a
            layer is unknown, or a kernel would lose all its weights.
    """

    def __init__(
        self,
        schedule: Schedule,
        *,
        score: str | scoring.Score = "magnitude",
        scope: str = "global",
        exclude: Iterable[str] = (),
        seed: int = 0,
        state_file: str | Path | None = None,
    ):
        super().__init__({})
        _check_schedule(schedule)
        self.schedule, self.scope, self.exclude = schedule, scope, tuple(exclude)
        self.score = scoring.get(score, seed=seed)
        self.state_file = None if state_file is None else Path(state_file)
        self.step = 0
        self._looked_at, self._begun = -1, False
        self._restored_at: int | None = None
        self._first_of_execution = 0

    @property
    def sparsity(self) -> float:
        """Share of the kernels' weights that are pruned now."""
        return masking.sparsity(self.masks)

    def on_train_begin(self, logs=None):
        self._kernels = prunable_kernels(self.model, self.exclude)
        self._groups = groups(self._kernels, self.scope)
        if self.state_file is not None and self.state_file.exists():
            self._restore()
        if not self.masks:
            # All True: so constraints are in the training step from its first compilation on.
            self.masks = {kernel.path: np.ones(kernel.shape, bool) for kernel in self._kernels}
        self.hold()

    def on_train_batch_begin(self, batch, logs=None):
        self._first_of_execution = batch
        if self._restored_at is not None:
            self._check_restored()
        self._take_turns()

    def on_train_batch_end(self, batch, logs=None):
        self.step += max(batch - self._first_of_execution + 1, 1)

    def on_epoch_end(self, epoch, logs=None):
        if self.state_file is not None:
            self._write_state()

    def on_train_end(self, logs=None):
        self._take_turns()
        if self._begun:
            self._finish()
        self.release()
        if self.state_file is not None:
            self.state_file.unlink(missing_ok=True)

    def _take_turns(self) -> None:
        # Several steps may run in one execution, so turns between two calls count too.
        for step in range(self._looked_at + 1, self.step + 1):
            turn = self._turn(step)
            if turn is not None:
                self._begun = True
                self._prune(*turn)
        self._looked_at = self.step

    def _turn(self, step: int) -> tuple[float, Mapping[str, Sequence[str]]] | None:
        """Sparsity and groups to prune at a step; None where masks stay."""
        update, sparsity = self.schedule(step)
        if not bool(update) and step != getattr(self.schedule, "end_step", None):
            return None
        return float(sparsity), self._groups

    def _finish(self) -> None:
        """Make the sparsity exact once training is over."""
        self._prune(float(self.schedule(self.step)[1]), self._groups)

    def _prune(self, sparsity: float, some: Mapping[str, Sequence[str]]) -> None:
        paths = {path for paths in some.values() for path in paths}
        chosen = [kernel for kernel in self._kernels if kernel.path in paths]
        self.masks = masking.prune(self.score(self.model, chosen), sparsity, some, self.masks)
        self.hold()

    def _about(self) -> dict[str, Any]:
        config: dict[str, Any] = getattr(self.schedule, "get_config", dict)()
        return {"schedule": config, "scope": self.scope, "exclude": list(self.exclude)}

    def _write_state(self) -> None:
        assert self.state_file is not None
        about = self._about() | {"step": self.step, "begun": self._begun,
                                 "iterations": int(self.model.optimizer.iterations)}
        masking.write_masks(self.state_file, self.masks, about)

    def _restore(self) -> None:
        assert self.state_file is not None
        found, about = masking.read_masks(self.state_file)
        for name, value in json.loads(json.dumps(self._about())).items():
            if about.get(name) != value:
                raise InputError(f"{self.state_file}: holds an interrupted pruning with another "
                                 f"{name}; remove it to start anew")
        self.masks, self.step = found, about["step"]
        self._looked_at, self._begun = self.step - 1, about["begun"]
        self._restored_at = about["iterations"]

    def _check_restored(self) -> None:
        now = int(self.model.optimizer.iterations)
        if now != self._restored_at:
            raise InputError(
                f"{self.state_file}: was written after {self._restored_at} steps of the optimiser, "
                f"which is at {now}; restore weights and optimiser too "
                "(keras.callbacks.BackupAndRestore in front of this callback), or remove the file")
        self._restored_at = None


def _check_schedule(schedule: Schedule) -> None:
    begin, end = getattr(schedule, "begin_step", 0), getattr(schedule, "end_step", -1)
    if end != -1 and end < begin:
        raise InputError(f"the schedule ends at step {end} before it begins at {begin}; give an "
                         "end_step of at least begin_step")
    for name in ("initial_sparsity", "final_sparsity", "target_sparsity"):
        if hasattr(schedule, name):
            masking.check_sparsity(getattr(schedule, name), name)
    if hasattr(schedule, "initial_sparsity") and end == begin:
        raise InputError(f"the schedule begins and ends at step {begin}, so its sparsity is "
                         "undefined; give a later end_step, or ConstantSparsity")
