"""Ways to compress one model, and what each costs on its validation images.

    bench = Bench("model.h5", "chest_xray", margin=0.02)
    row = bench.measure(Candidate("uCWS", k=16, epochs=10))
    row["bytes"], row["shortfall"], row["feasible"]

What a candidate may cost is judged as the verdict is (`evaluation.comparison`): every class that
the validation images can decide must be non-inferior. A class that they cannot decide, of fewer
than 50 patients or both models perfect, must at least not fall by more than the margin (of fewer
than 5 patients a fall says nothing), and the probabilities may change by no more than the margin on
average. *Shortfall* says by how much the
worst class misses that, in the metric's units; at or below 0 nothing is missed.

The best of many on one set of images looks better than it is. So where a file is chosen among m
candidates, intervals are widened so that a false "non-inferior" of any of them is no likelier than
of one alone (Bonferroni; Dunn 1961): 97.5% one-sided becomes 1 − 0.025 / m.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtri

from cxcompress.errors import InputError
from cxcompress.evaluation.estimates import TAIL
from cxcompress.quantization import Compression

UNDECIDED_BY_INTERVAL = "the interval holds the margin"
FEWEST_PATIENTS = 5
"""Of a finding that fewer patients have, or lack, a changed AUROC is that of single images: only
the change of probabilities counts."""


@dataclass(frozen=True)
class Candidate:
    """One way to compress.

    Args:
        compression: As `--compression`, without `pr`: a quantizer, with or without `u`.
        k: Shared values of convolutions and of dense layers; not for TCQ.
        pruned: Percent of every kernel's weights that are pruned first.
        sqnr_db: TCQ only: signal-to-noise ratio of the weights, in dB.
        lambd: ECSQ only: weight of the rate; None finds it for k levels.
        sensitivity: `"none"`, `"fisher"` or `"channels"`, as `--sensitivity`.
        dropped: Last blocks of the network that are dropped.
        epochs: Most epochs of fine-tuning.
        learning_rate, lr_cumulative: Of fine-tuning.
        assign: `"fixed"` or `"learned"` indices in fine-tuning.
    """

    compression: str
    k: int = 0
    pruned: float = 0.0
    sqnr_db: float | None = None
    lambd: float | None = None
    sensitivity: str = "none"
    dropped: int = 0
    epochs: int = 0
    learning_rate: float = 1e-3
    lr_cumulative: float = 1e-3
    assign: str = "learned"

    @property
    def parsed(self) -> Compression:
        """What `share_weights` takes.

        Raises:
            InputError: If the values contradict each other.
        """
        more = {"sqnr_db": self.sqnr_db} if self.sqnr_db is not None else {
            "clustercnn": self.k, "clusterfc": self.k, "prcnn": self.pruned, "prfc": self.pruned,
            "lambd": self.lambd}
        return Compression.parse(("pr" if self.pruned else "") + self.compression, **more)

    @property
    def name(self) -> str:
        """Readable, and unique among the candidates of a search."""
        parts = [self.compression, f"{self.sqnr_db:g} dB" if self.sqnr_db is not None
                 else f"k = {self.k}"]
        parts += [f"λ = {self.lambd:g}"] if self.lambd is not None else []
        parts += [f"{self.pruned:g}% pruned"] if self.pruned else []
        parts += [self.sensitivity] if self.sensitivity != "none" else []
        parts += [f"{self.dropped} blocks dropped"] if self.dropped else []
        if self.epochs:
            parts += [f"{self.epochs} epochs {self.assign}"]
            rates = (self.learning_rate, self.lr_cumulative)
            parts += [f"rates {rates[0]:g} and {rates[1]:g}"] if rates != (1e-3, 1e-3) else []
        return ", ".join(parts)

    @property
    def flags(self) -> dict[str, Any]:
        """Flags of `compress.py`, by name, that say the same; those that have no effect left out.

        A network without its last blocks is compressed as a file of its own.
        """
        parsed = {"compression": self.parsed.name}
        if self.sqnr_db is not None:
            parsed["sqnr"] = self.sqnr_db
        else:
            parsed |= {"clustercnn": self.k, "clusterfc": self.k}
        if self.pruned:
            parsed |= {"prcnn": self.pruned, "prfc": self.pruned}
        if self.lambd is not None:
            parsed["lambd"] = self.lambd
        if self.sensitivity != "none":
            parsed["sensitivity"] = self.sensitivity
        if self.epochs:
            parsed |= {"epochs": self.epochs, "learning_rate": self.learning_rate,
                       "lr_cumulative": self.lr_cumulative, "assign": self.assign}
        return parsed

    @property
    def untuned(self) -> Candidate:
        """The same without fine-tuning."""
        return dataclasses.replace(self, epochs=0)

    @property
    def key(self) -> str:
        """A file name for what belongs to the candidate however long it is fine-tuned."""
        text = json.dumps(dataclasses.asdict(dataclasses.replace(self, epochs=0)))
        return hashlib.sha256(text.encode()).hexdigest()[:16]


class Bench:
    """A model and its data, opened once in a process, on which candidates are measured.

    Args:
        net: A model file.
        data_path: As for `compress.py`.
        folder: Of the run: truncated networks, sensitivities, states of fine-tuning and
            candidates' containers lie there.
        count, data_seed: Of generated images.
        preprocessing, classes: As for `compress.py`.
        margin: Non-inferiority margin.
        batch_size, patience, augment, crop: Of fine-tuning, as for `pipeline.FineTuning`.
        seed: Of everything random.
        resamples: Of the bootstrap.
        unshared: `"compact"` or `"exact"` biases and BatchNormalization
            (`pipeline.unshared_weights`).
    """

    def __init__(self, net: str, data_path: str, folder: str, *, count: int | None = None,
                 data_seed: int = 0, preprocessing: str = "auto",
                 classes: Sequence[str] | None = None, margin: float = 0.02, batch_size: int = 32,
                 patience: int = 5, seed: int = 0, resamples: int = 1000,
                 unshared: str = "exact", augment: bool = False, crop: int | None = None):
        from cxcompress.pipeline import inputs
        from cxcompress.pipeline.tuning import check_crop

        self.folder, self.margin, self.seed, self.resamples = Path(folder), margin, seed, resamples
        self.batch_size, self.patience, self.unshared = batch_size, patience, unshared
        self.augment, self.crop = augment, crop
        self.notes: list[str] = []
        self.model, self.card, self.provenance = inputs.open_model(net)
        self.study = inputs.open_study(self.model, self.card, data_path, classes, preprocessing,
                                       data_seed, self.notes, count)
        if self.study.collection.val is None or not self.study.labelled:
            raise InputError(f"--data_path {data_path}: has no labelled validation images to "
                             "choose a compression by; give train and val images")
        check_crop(crop, self.study)
        self._networks = {0: self.model}
        self._scaled: dict[int, tuple[Any, dict[str, NDArray]]] = {}

    @cached_property
    def val(self):
        """The validation part."""
        return self.study.collection.val

    @cached_property
    def thresholds(self) -> tuple[float, ...] | None:
        """The original's thresholds: its card's, else chosen on validation."""
        carded = self.card.thresholds if self.card is not None else None
        return carded or self.study.thresholds(self.model, self.batch_size)

    @cached_property
    def original(self):
        """What the original says of all validation images."""
        return self.study.record(self.model, self.val, self.batch_size, "Original",
                                 self.thresholds)

    def network(self, dropped: int):
        """The network without its last blocks, trained on the training images; kept in the folder.

        Raises:
            InputError: If it has not so many blocks.
        """
        if dropped in self._networks:
            return self._networks[dropped]
        import keras

        from cxcompress import models

        path = self.folder / "networks" / f"dropped={dropped}.keras"
        if path.exists():
            self._networks[dropped] = models.load_model(path)
            return self._networks[dropped]
        keras.utils.set_random_seed(self.seed)
        model = models.truncate(self.model, dropped)
        self._fit(model)
        models.save_model(model, path)
        self._networks[dropped] = model
        return model

    def _fit(self, model, epochs: int = 10) -> None:
        from cxcompress.training import fit_classifier

        if self.study.task.name == "nuclei":
            raise InputError("--dropped: networks of density maps have no blocks to drop")
        fit_classifier(model, self.study.collection, self.study.preprocessing, epochs=epochs,
                       learning_rate=3e-4, batch_size=self.batch_size, patience=self.patience,
                       seed=self.seed)

    def importance(self, dropped: int) -> dict[str, NDArray]:
        """Squared gradients of each kernel's weights, computed once a network."""
        from cxcompress.pipeline.inputs import evenly
        from cxcompress.pipeline.sensitivities import IMAGES, squared_gradients
        from cxcompress.runs import atomic_path

        path = self.folder / "sensitivities" / f"dropped={dropped}.npz"
        if not path.exists():
            part = self.study.collection.train or self.val
            found = squared_gradients(
                self.network(dropped),
                self.study.preprocessing.batch(evenly(part, IMAGES).images),
                self.study.task.name, self.seed)
            with atomic_path(path) as temporary:
                np.savez(temporary, **found)
        with np.load(path, allow_pickle=False) as file:
            return dict(file)

    def prepared(self, candidate: Candidate) -> tuple[Any, dict[str, NDArray] | None]:
        """The network whose kernels the candidate shares, and how much each weight matters."""
        from cxcompress.pipeline.channel_scales import with_scaled_channels

        dropped = candidate.dropped
        if candidate.sensitivity != "channels":
            return self.network(dropped), (
                self.importance(dropped) if candidate.sensitivity == "fisher" else None)
        if dropped not in self._scaled:
            self._scaled[dropped] = with_scaled_channels(
                self.network(dropped), self.importance(dropped))[:2]
        return self._scaled[dropped]

    def measure(self, candidate: Candidate, images: int | None = None,
                among: int = 1) -> dict[str, Any]:
        """Compress as the candidate says, and compare with the original on validation images.

        Fine-tuning is left out where the candidate is feasible without it. The container of the
        outcome is kept as `containers/<key>-<epochs>.h5`.

        Args:
            candidate: How.
            images: At most so many validation images, evenly spaced; None takes all, and of
                fields of nuclei all are always taken.

        Returns:
            A row: the candidate, `bytes` of its container without execution plans, `verdict`,
            `shortfall`, `feasible`, `worst` (metric), `lowest` (its lower bound), `seconds`.
        """
        from cxcompress import models
        from cxcompress.pipeline.inputs import evenly
        from cxcompress.pipeline.sharing import share_model, with_estimated_statistics
        from cxcompress.pipeline.tuning import FineTuning, tune

        started = time.perf_counter()
        model, importance = self.prepared(candidate)
        compression = candidate.parsed
        weights = models.weights(model)
        whole = images is None or self.study.task.name == "nuclei"
        part = self.val if whole else evenly(self.val, images)
        shared = share_model(model, compression, self.seed, importance)
        shared, _ = with_estimated_statistics(model, shared, self.study,
                                              batch_size=self.batch_size, seed=self.seed)
        stored = self._stored(model, shared)
        row = self._judged(model, weights, stored, part, among)
        epochs = 0
        if candidate.epochs and not row["feasible"]:
            tuned, _ = tune(
                model, shared, self.study, FineTuning(
                    candidate.epochs, candidate.learning_rate, candidate.lr_cumulative,
                    self.batch_size, self.patience, candidate.assign, crop=self.crop,
                    augment=self.augment),
                compression, seed=self.seed,
                # Of so many epochs: the rates of a longer training fall later.
                state_folder=self.folder / "states" / self.container(candidate).stem)
            trained = self._stored(model, tuned.shared)
            after = self._judged(model, weights, trained, part, among)
            # The best epoch is that of the loss, which need not be the worst class's.
            if after["shortfall"] < row["shortfall"]:
                row, stored, epochs = after, trained, tuned.best_epoch
        size = self._write(model, stored, candidate, self.container(candidate))
        return {"name": candidate.name, "candidate": dataclasses.asdict(candidate),
                "bytes": size, "best_epoch": epochs, **row,
                "seconds": time.perf_counter() - started}

    def container(self, candidate: Candidate) -> Path:
        """Where the candidate's compressed model is kept."""
        return self.folder / "containers" / f"{candidate.key}-{candidate.epochs}.h5"

    def _stored(self, model, shared):
        """The weights as a file is to hold them."""
        from cxcompress.pipeline.unshared_weights import with_compact_floats

        return with_compact_floats(model, shared) if self.unshared == "compact" else shared

    def _write(self, model, shared, candidate: Candidate, path: Path) -> int:
        from cxcompress import models
        from cxcompress.models import ends
        from cxcompress.storage import Container, ModelCard, write_container

        card = ModelCard(
            task=self.study.task.name, classes=self.study.task.classes,
            preprocessing=self.study.preprocessing.to_dict(), thresholds=self.thresholds,
            provenance=self.provenance | {
                "compression": candidate.parsed.get_config(), "seed": self.seed,
                "search": candidate.name} | (
                    {"unshared": self.unshared} if self.unshared == "compact" else {}),
            licence=self.card.licence if self.card else "",
            synthetic=bool(self.card and self.card.synthetic) or self.study.collection.synthetic,
            from_logits=ends.gives_logits(model))
        path.parent.mkdir(parents=True, exist_ok=True)
        return write_container(
            path, Container(shared, models.architecture_json(model), None, card,
                            candidate.parsed.name), overwrite=True).total

    def _judged(self, model, weights, shared, part, among: int) -> dict[str, Any]:
        from cxcompress import models

        models.set_weights(model, shared.weights())
        try:
            chosen = self.thresholds
            if self.study.task.name == "nuclei":
                chosen = self.study.thresholds(model, self.batch_size, chosen) or chosen
            record = self.study.record(model, part, self.batch_size, "Validation", chosen)
        finally:
            models.set_weights(model, weights)
        return judged_row(self.original, record, self.margin, self.thresholds, self.resamples,
                          self.seed, among)

    def seconds_an_image(self, dropped: int) -> dict[str, Any]:
        """Bytes that the execution plans add to a file, and the median seconds of the fastest."""
        from cxcompress import models
        from cxcompress.pipeline.execution_plans import add_plans
        from cxcompress.pipeline.inputs import evenly
        from cxcompress.pipeline.sharing import share_model
        from cxcompress.runtime import PLANS
        from cxcompress.storage import Container, ModelCard, write_container

        model = self.network(dropped)
        check = self.study.preprocessing.batch(evenly(self.val, 8).images)
        shared = self._stored(
            model, share_model(model, Candidate("uUQ", 256).parsed, self.seed))
        plain = Container(shared, models.architecture_json(model), None,
                          ModelCard(task=self.study.task.name, classes=self.study.task.classes),
                          "uUQ")
        whole, reports, _ = add_plans(plain, model, PLANS, check, self.study, None,
                                      self.resamples, self.seed, None)
        with tempfile.TemporaryDirectory() as folder:
            before, after = (write_container(Path(folder) / name, one).total
                             for name, one in (("plain.h5", plain), ("whole.h5", whole)))
        seconds = {report.plan: report.seconds for report in reports if report.seconds}
        return {"dropped": dropped, "plan_bytes": after - before, "seconds": seconds,
                "fastest": min(seconds.values(), default=None)}


def judged_row(original, record, margin: float, thresholds, resamples: int,
               seed: int, among: int = 1) -> dict[str, Any]:
    """What a comparison says, flat, and by how much the worst class misses the margin.

    Args:
        original: Records of all validation images.
        record: Of the candidate, on some of them or on all.
        margin, thresholds, resamples, seed: As for `evaluation.compare`.
        among: Of how many candidates one will be chosen.

    Returns:
        `n`, `verdict`, `shortfall` with intervals widened for the choice, `feasible` (that is below
        0), `shortfall_alone` with 95% intervals, `worst` (metric), `lowest` (lower bound of its 95%
        interval), `undecidable` (metrics), `mean_change` of probabilities.
    """
    from cxcompress.evaluation import compare
    from cxcompress.tasks import Predictions

    if len(record.image_id) < len(original.image_id):
        original = original.select(np.flatnonzero(np.isin(original.image_id, record.image_id)))
    comparison = compare(original, record, margin=margin, thresholds=thresholds,
                         resamples=resamples, seed=seed)
    scored = isinstance(record, Predictions)
    change = float(np.abs(original.score - record.score).mean()) if scored else 0.0
    # Undefined metrics can never be shown to be kept: they miss it all.
    misses, alone, undecidable = {}, {}, []
    for one in comparison.primary:
        value, low = one.difference.value, one.difference.low
        if one.verdict != "undecided" or one.reason == UNDECIDED_BY_INTERVAL:
            alone[one.metric] = -margin - low
            misses[one.metric] = -margin - (value - (value - low) * widening(among))
        else:
            undecidable.append(one.metric)
            few = (one.positive_patients is not None and one.negative_patients is not None
                   and min(one.positive_patients, one.negative_patients) < FEWEST_PATIENTS)
            fall = -margin if scored and few else -margin - value
            alone[one.metric] = misses[one.metric] = max(fall, change - margin)
    misses, alone = ({name: float(np.nan_to_num(found, nan=1.0)) for name, found in some.items()}
                     for some in (misses, alone))
    worst = max(misses, key=lambda name: misses[name])
    return {"n": len(record.image_id), "verdict": comparison.verdict, "shortfall": misses[worst],
            "feasible": misses[worst] < 0, "shortfall_alone": max(alone.values()), "worst": worst,
            "lowest": next(one.difference.low for one in comparison.primary
                           if one.metric == worst),
            "undecidable": undecidable, "mean_change": change}


def widening(among: int) -> float:
    """How many times as far an interval reaches, where one of so many candidates is chosen."""
    return float(ndtri(1 - TAIL / among) / ndtri(1 - TAIL))
