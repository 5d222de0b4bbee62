"""Keeping the best epoch, stopping when none comes, and continuing where a run was interrupted.

    keeper = BestEpoch("val_loss", patience=6, pipeline=train, state=folder / "state.npz")
    start = keeper.resume(model)                          # 0, or the epochs already trained
    model.fit(train.dataset, initial_epoch=start, epochs=30, callbacks=[keeper])
    keeper.history["val_loss"], keeper.best_epoch         # the model holds the best weights
"""

from __future__ import annotations

import json
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path

import keras
import numpy as np

from cxcompress.errors import InputError
from cxcompress.runs import atomic_path, to_csv, write_atomic
from cxcompress.training.image_pipeline import ImagePipeline

WATCHED = {"val_loss": -1.0, "val_macro_ap": 1.0}
"""What can be watched, and its sign: higher × sign is better."""

PLATEAU_FACTOR = 0.5


class BestEpoch(keras.callbacks.Callback):
    """Early stopping, halving of the learning rate on plateaus, and resuming, in one state.

    Args:
        watched: `"val_loss"` or `"val_macro_ap"`.
        patience: Epochs without improvement after which training stops; after a third of them
            the learning rate is halved.
        pipeline: Of training images; told which epoch it is.
        judge: Gives `val_macro_ap` of the model, where that is watched.
        state: File for weights, optimiser and history after every epoch; None keeps none.
        about: What the state must agree with to be continued.
        table: A CSV that grows by one row an epoch; None writes none.
    """

    def __init__(self, watched: str, patience: int, pipeline: ImagePipeline, *,
                 judge: Callable[[keras.Model], float] | None = None,
                 state: Path | None = None, about: Mapping | None = None,
                 table: Path | None = None):
        super().__init__()
        self.watched, self.patience, self.pipeline = watched, patience, pipeline
        self.judge, self.state, self.about, self.table = judge, state, dict(about or {}), table
        self.history: dict[str, list[float]] = {}
        self.best_epoch, self.since_halved = -1, 0
        self.best: list[np.ndarray] = []

    @property
    def scores(self) -> list[float]:
        """What was watched, turned so that higher is better."""
        return [WATCHED[self.watched] * value for value in self.history.get(self.watched, [])]

    def resume(self, model: keras.Model) -> int:
        """Put the state of an interrupted run into the model; returns epochs done.

        Its optimiser must have its variables, as after `compile_with_optimizer`.

        Raises:
            InputError: If the state is of another training.
        """
        if self.state is None or not self.state.exists():
            return 0
        try:
            with np.load(self.state, allow_pickle=False) as arrays:
                about = json.loads(str(arrays["about"]))
                found = {key: arrays[key] for key in arrays.files if key != "about"}
        except (OSError, ValueError, KeyError, zipfile.BadZipFile) as error:
            raise InputError(f"{self.state}: damaged ({error}); start again with "
                             "--overwrite") from error
        if about["about"] != json.loads(json.dumps(self.about)):
            raise InputError(f"{self.state}: is of another training; start again with --overwrite")
        for prefix, variables in (("model", model.variables),
                                  ("optimizer", model.optimizer.variables)):
            for number, variable in enumerate(variables):
                variable.assign(found[f"{prefix}{number}"])
        self.best = [found[f"best{number}"] for number in range(len(model.weights))]
        self.history, self.best_epoch = about["history"], about["best_epoch"]
        self.since_halved = about["since_halved"]
        return len(self.history["loss"])

    def on_epoch_begin(self, epoch, logs=None):
        self.pipeline.epoch = epoch

    def on_epoch_end(self, epoch, logs=None):
        logs = dict(logs or {})
        if self.judge is not None:
            logs["val_macro_ap"] = self.judge(self.model)
        logs["learning_rate"] = float(keras.ops.convert_to_numpy(
            self.model.optimizer.learning_rate))
        for name, value in logs.items():
            self.history.setdefault(name, []).append(float(value))
        scores = self.scores
        if not np.isfinite(logs["loss"]):
            self.model.stop_training = True
            return
        if self.best_epoch < 0 or scores[-1] > scores[self.best_epoch]:
            self.best_epoch, self.since_halved = epoch, 0
            self.best = self.model.get_weights()
        else:
            self.since_halved += 1
            if self.since_halved >= max(self.patience // 3, 1):
                self.model.optimizer.learning_rate = PLATEAU_FACTOR * logs["learning_rate"]
                self.since_halved = 0
            if epoch - self.best_epoch >= self.patience:
                self.model.stop_training = True
        if self.table is not None:
            write_atomic(self.table, to_csv([
                {"epoch": number + 1} | {name: values[number]
                                         for name, values in self.history.items()}
                for number in range(len(self.history["loss"]))]))
        if self.state is not None:
            self._save()

    @property
    def finished(self) -> bool:
        """Whether the run had stopped by itself before it was interrupted."""
        return bool(self.history) and (
            len(self.history["loss"]) - 1 - self.best_epoch >= self.patience)

    def _save(self) -> None:
        arrays = {f"best{number}": value for number, value in enumerate(self.best)}
        for prefix, variables in (("model", self.model.variables),
                                  ("optimizer", self.model.optimizer.variables)):
            arrays |= {f"{prefix}{number}": keras.ops.convert_to_numpy(variable)
                       for number, variable in enumerate(variables)}
        about = {"about": self.about, "history": self.history, "best_epoch": self.best_epoch,
                 "since_halved": self.since_halved}
        with atomic_path(self.state) as temporary, open(temporary, "wb") as file:
            np.savez(file, about=np.asarray(json.dumps(about)), **arrays)

    def keep_best(self, model: keras.Model) -> None:
        """Give the model the weights of its best epoch, and forget the state."""
        if self.best:
            model.set_weights(self.best)

    def forget(self) -> None:
        """Remove the state file, which is as large as four models."""
        if self.state is not None:
            self.state.unlink(missing_ok=True)
