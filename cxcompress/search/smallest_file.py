"""The smallest file that is not inferior: screens without training, then successive halving.

    search = SmallestFile(bench_text, folder, space, settings)
    rows = search.run(pool)                      # every candidate that was measured
    front(rows), recommended(rows), nearest(rows)

1. *Screens*. Optuna's TPE proposes candidates without fine-tuning, in rounds; each is measured on
   few validation images. Bytes are minimised under the constraint that nothing is missed (the
   shortfall of `candidates`). The first candidate is always uCWS with 256 shared values.
2. *Successive halving* (Jamieson and Talwalkar 2016). The best quarter, half of it of TCQ, is
   measured on all validation images, with a quarter of the epochs of fine-tuning where it needs
   some, and so are some that passed their screen, from the smallest to the largest; the best half
   of those still in doubt goes on with half the epochs, and again with all of them. Fine-tuning
   begins anew, since its rates fall over the epochs of the rung, and counts where it helps.
   "Best" is first what no other beats in both bytes and shortfall, the least shortfall before the
   others, then what is left when those are taken away, and so on; what is larger than a file that
   was found to be feasible is out.

Rounds are asked whole and told in order, and every round has a sampler seeded by its number: the
same seed gives the same candidates on one machine or many, interrupted or not.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import math
import shutil
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from cxcompress.errors import InputError, MissingExtra
from cxcompress.runs import RunFolder, UnitPool, WorkUnit
from cxcompress.search.candidates import Bench, Candidate

ROUND = 8
"""Candidates that are proposed at a time: how many workers can be busy at once."""
STARTS = (("uCWS", 256), ("uUQ", 256), ("uCWS", 64), ("uUQ", 16), ("uECSQ", 32), ("CWS", 16))
TRELLIS_STARTS = ((24, "channels"), (14, "none"))
"""Candidates of the first round, as far as the space holds them: a ladder to learn from."""
CONFIRMED = 4
"""Candidates that passed their screen and are measured on all validation images."""
RUNGS = (4, 2, 1)
"""Parts of the epochs that the rungs of successive halving train."""


@dataclass(frozen=True)
class Space:
    """What may be combined.

    Args:
        quantizers: Of `quantization.QUANTIZERS`.
        scopes: `"unified"`, `"layer"`.
        levels: Shared values, of all but TCQ.
        sqnr_db: Least and greatest signal-to-noise ratio of TCQ.
        pruned: Percentages; 0 is no pruning.
        sensitivities: Of `"none"`, `"fisher"`, `"channels"`; the last does what the second does,
            and more where there is BatchNormalization.
        dropped: Numbers of last blocks; 0 is the whole network.
    """

    quantizers: tuple[str, ...] = ("UQ", "CWS", "ECSQ", "TCQ")
    scopes: tuple[str, ...] = ("unified", "layer")
    levels: tuple[int, ...] = (256, 128, 64, 32, 16, 8, 4)
    sqnr_db: tuple[int, int] = (8, 32)
    pruned: tuple[int, ...] = (0, 30, 50, 70, 80, 90)
    sensitivities: tuple[str, ...] = ("none", "channels")
    dropped: tuple[int, ...] = (0,)

    def suggest(self, trial) -> Candidate:
        """The candidate of an Optuna trial, asked for or finished."""
        quantizer = trial.suggest_categorical("quantizer", self.quantizers)
        scope = trial.suggest_categorical("scope", self.scopes)
        common = {
            "compression": ("u" if scope == "unified" else "") + quantizer,
            "sensitivity": trial.suggest_categorical("sensitivity", self.sensitivities),
            "dropped": trial.suggest_categorical("dropped", self.dropped)}
        if common["compression"] == "uTCQ":
            common["sensitivity"] = "none"  # one step for all: nothing to give each layer
        if quantizer == "TCQ":
            return Candidate(**common, sqnr_db=float(trial.suggest_int("sqnr_db", *self.sqnr_db)))
        return Candidate(**common, k=trial.suggest_categorical("k", self.levels),
                         pruned=float(trial.suggest_categorical("pruned", self.pruned)))

    def starts(self) -> list[dict[str, Any]]:
        """Parameters of the first candidates."""
        found = [{"quantizer": name.removeprefix("u"), "k": k, "pruned": 0, "dropped": 0,
                  "sensitivity": "none", "scope": "unified" if name.startswith("u") else "layer"}
                 for name, k in STARTS]
        found += [{"quantizer": "TCQ", "scope": "layer", "sensitivity": sensitivity, "dropped": 0,
                   "sqnr_db": sqnr_db} for sqnr_db, sensitivity in TRELLIS_STARTS]
        held = {"quantizer": self.quantizers, "scope": self.scopes, "k": self.levels,
                "pruned": self.pruned, "sensitivity": self.sensitivities, "dropped": self.dropped,
                "sqnr_db": range(self.sqnr_db[0], self.sqnr_db[1] + 1)}
        return [one for one in found if all(value in held[name] for name, value in one.items())]


@dataclass(frozen=True)
class Settings:
    """How much is tried.

    Args:
        trials: Candidates that are screened.
        screen_images: Validation images of the screens, at most.
        epochs: Most epochs of fine-tuning; 0 never fine-tunes.
        learning_rate, lr_cumulative: Of fine-tuning.
        max_bytes: Largest file, execution plans included; None: any.
        max_seconds: Longest time an image in the runtime, of the fastest plan; None: any.
        seed: Of the proposals.
        storage: Of Optuna, a database URL; None: SQLite in the run folder.
    """

    trials: int = 48
    screen_images: int = 512
    epochs: int = 12
    learning_rate: float = 1e-3
    lr_cumulative: float = 1e-3
    max_bytes: int | None = None
    max_seconds: float | None = None
    seed: int = 0
    storage: str | None = None


@lru_cache(maxsize=1)
def bench_of(text: str) -> Bench:
    """The bench that JSON arguments describe, opened once a process."""
    from cxcompress.tensorflow_start import start_tensorflow

    start_tensorflow()
    return Bench(**json.loads(text))


def measure(bench: str, candidate: Mapping[str, Any], images: int | None,
            among: int) -> dict[str, Any]:
    """A work unit: `Bench.measure` of the bench that JSON describes."""
    return bench_of(bench).measure(Candidate(**candidate), images, among)


def prepare_network(bench: str, dropped: int) -> dict[str, Any]:
    """A work unit: a network trained where blocks are dropped, its plans' bytes and speed."""
    return bench_of(bench).seconds_an_image(dropped)


class SmallestFile:
    """The search over one model and its data.

    Args:
        bench: JSON of `Bench`'s arguments.
        folder: Of the run; results of work units and Optuna's database lie there.
        space: What may be combined.
        settings: How much is tried.
    """

    def __init__(self, bench: str, folder: RunFolder, space: Space, settings: Settings):
        self.bench, self.folder, self.space, self.settings = bench, folder, space, settings

    def run(self, pool: UnitPool | None = None) -> list[dict[str, Any]]:
        """Search; the rows of all candidates, screens first.

        Each row is `Bench.measure`'s with `stage` (0: screen, 1 and up: rungs), `file_bytes`
        (execution plans included) and `allowed` (within `max_bytes` and `max_seconds`).
        """
        self.networks = self._networks(pool)
        screens = self._screens(pool)
        rows = [*screens, *self._rungs(screens, pool)]
        return rows

    def _networks(self, pool: UnitPool | None) -> dict[int, dict[str, Any]]:
        units = [WorkUnit(f"network/dropped={dropped}", prepare_network,
                          {"bench": self.bench, "dropped": dropped})
                 for dropped in self.space.dropped]
        found = self.folder.run_units(units, "Networks", pool)
        return {row["dropped"]: row for row in found.values()}

    def _measured(self, candidates: Sequence[Candidate], stage: int, pool: UnitPool | None,
                  images: int | None = None, among: int = 1) -> list[dict[str, Any]]:
        units = [WorkUnit(f"stage={stage}/{candidate.name}", measure,
                          {"bench": self.bench, "candidate": dataclasses.asdict(candidate),
                           "images": images, "among": among})
                 for candidate in dict.fromkeys(candidates)]
        found = self.folder.run_units(
            units, "Screens" if stage == 0 else f"Fine-tuning, rung {stage}", pool)
        return [self._limited(row | {"stage": stage}) for row in found.values()]

    def _limited(self, row: dict[str, Any]) -> dict[str, Any]:
        network = self.networks[row["candidate"]["dropped"]]
        settings = self.settings
        file_bytes = row["bytes"] + network["plan_bytes"]
        allowed = settings.max_bytes is None or file_bytes <= settings.max_bytes
        if settings.max_seconds is not None:
            fastest = network["fastest"]
            allowed = allowed and fastest is not None and fastest <= settings.max_seconds
        return row | {"file_bytes": file_bytes, "allowed": allowed,
                      "seconds_an_image": network["fastest"]}

    def _screens(self, pool: UnitPool | None) -> list[dict[str, Any]]:
        import optuna

        study, settings = self._study(), self.settings
        owner = str(self.folder.path.resolve())
        before: dict[int, list[Any]] = {}
        for trial in study.get_trials(deepcopy=False):
            if trial.user_attrs.get("owner") == owner:
                if trial.state == optuna.trial.TrialState.RUNNING:
                    study.tell(trial.number, state=optuna.trial.TrialState.FAIL)
                elif trial.state == optuna.trial.TrialState.COMPLETE:
                    before.setdefault(trial.user_attrs["round"], []).append(trial)
        rows: dict[str, dict[str, Any]] = {}
        starts = [optuna.trial.FixedTrial(one) for one in self.space.starts()][:settings.trials]
        sizes = [len(starts)]
        while sum(sizes) < settings.trials:
            sizes.append(min(ROUND, settings.trials - sum(sizes)))
        for number, size in enumerate(sizes):
            done = before.get(number)
            if done:
                trials = [optuna.trial.FixedTrial(trial.params) for trial in done]
            elif number == 0:
                trials = starts
            else:
                study.sampler = _sampler((settings.seed, number))
                trials = [study.ask() for _ in range(size)]
                for trial in trials:
                    trial.set_user_attr("owner", owner)
                    trial.set_user_attr("round", number)
            candidates = [self.space.suggest(trial) for trial in trials]
            measured = {row["name"]: row for row in self._measured(
                candidates, 0, pool, settings.screen_images)}
            rows |= measured
            if done:
                continue
            for trial, candidate in zip(trials, candidates, strict=True):
                row = measured[candidate.name]
                missed = row["shortfall"] if row["allowed"] else max(row["shortfall"], 1.0)
                if number:
                    trial.set_user_attr("missed", missed)
                    study.tell(trial, row["bytes"])
                else:
                    study.add_trial(optuna.trial.create_trial(
                        params=trial.params, distributions=trial.distributions,
                        value=row["bytes"],
                        user_attrs={"owner": owner, "round": 0, "missed": missed}))
        return list(rows.values())

    def _study(self):
        try:
            import optuna
        except ImportError as error:
            raise MissingExtra("optuna", "scale") from error
        optuna.logging.set_verbosity(optuna.logging.ERROR)
        storage = self.settings.storage or f"sqlite:///{(self.folder.path / 'search.db').resolve()}"
        about = json.dumps([self.bench, dataclasses.asdict(self.space)], sort_keys=True)
        try:
            return optuna.create_study(
                storage=storage, load_if_exists=True, direction="minimize",
                study_name=f"cxcompress-{hashlib.sha256(about.encode()).hexdigest()[:16]}")
        except Exception as error:  # whatever the database's driver raises
            raise InputError(f"--storage {storage}: cannot be opened ({error}); give the URL of a "
                             "database, e.g. sqlite:///search.db") from error

    def _rungs(self, screens: Sequence[Mapping[str, Any]],
               pool: UnitPool | None) -> list[dict[str, Any]]:
        settings = self.settings
        rows: list[dict[str, Any]] = []
        passed = [row for row in screens if row["feasible"] and row["allowed"]]
        smallest = min(passed, key=lambda row: row["bytes"], default=None)
        below = [row for row in screens if smallest is None or row["bytes"] < smallest["bytes"]]
        # Training moves the weights of all but TCQ, so the two kinds do not compete yet.
        count = max(1, math.ceil(len(screens) / 8))
        doubtful = [row for learned in (True, False) for row in promoted(
            [row for row in below if _learns(row) == learned], count)]
        doubtful += spread(sorted(passed, key=lambda row: row["bytes"]), CONFIRMED)
        parts = RUNGS if settings.epochs else (1,)
        # As many files as could be chosen: halves of the first rung go on.
        among = sum(math.ceil(len(doubtful) / 2**rung) for rung in range(len(parts)))
        for stage, part in enumerate(parts, start=1):
            epochs = math.ceil(settings.epochs / part)
            rows += self._measured([dataclasses.replace(
                Candidate(**row["candidate"]), epochs=epochs,
                learning_rate=settings.learning_rate, lr_cumulative=settings.lr_cumulative)
                for row in doubtful], stage, pool, among=among)
            found = min((row["bytes"] for row in rows if row["feasible"] and row["allowed"]),
                        default=math.inf)
            latest = [row for row in rows if row["stage"] == stage and not row["feasible"]]
            doubtful = [row for row in best_first(latest) if row["bytes"] < found]
            doubtful = doubtful[:math.ceil(len(doubtful) / 2)]
            if not doubtful:
                break
        return rows


def _sampler(seed: tuple[int, int]):
    import optuna

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of Optuna, about options that it calls experimental
        return optuna.samplers.TPESampler(
            seed=int(np.random.SeedSequence(seed).generate_state(1)[0]), n_startup_trials=2 * ROUND,
            multivariate=True, group=True, constant_liar=True,
            constraints_func=lambda trial: (trial.user_attrs.get("missed", 1.0),))


def _learns(row: Mapping[str, Any]) -> bool:
    return not row["candidate"]["compression"].endswith("TCQ")


def spread(rows: Sequence[Mapping[str, Any]], count: int) -> list[Mapping[str, Any]]:
    """At most `count` rows, evenly spaced, the first and the last among them."""
    if len(rows) <= count:
        return list(rows)
    return [rows[place] for place in np.linspace(0, len(rows) - 1, count).round().astype(int)]


def best_first(rows: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """Allowed rows, layer by layer: first what nothing beats in both bytes and shortfall.

    Within a layer those come first that miss least: the smallest files of all miss so much that
    no training mends it.
    """
    left = [row for row in rows if row["allowed"]]
    ordered: list[Mapping[str, Any]] = []
    while left:
        layer = front(left)
        ordered += sorted(layer, key=lambda row: row["shortfall"])
        taken = set(map(id, layer))
        left = [row for row in left if id(row) not in taken]
    return ordered


def promoted(rows: Sequence[Mapping[str, Any]], count: int) -> list[Mapping[str, Any]]:
    """The first `count` of `best_first`; of a front that is larger, as many evenly spaced.

    What training mends is not known yet, so no end of the front is left out.
    """
    ordered = best_first(rows)
    first = front([row for row in rows if row["allowed"]])
    return ordered[:count] if len(first) <= count else spread(first, count)


def front(rows: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """Rows that no other beats in both bytes and shortfall, smallest first: the Pareto front."""
    kept: list[Mapping[str, Any]] = []
    for row in sorted(rows, key=lambda row: (row["bytes"], row["shortfall"])):
        if not kept or row["shortfall"] < kept[-1]["shortfall"]:
            kept.append(row)
    return kept


def judged_on_all(rows: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """Rows of candidates that were measured on all validation images."""
    return [row for row in rows if row["stage"]]


def recommended(rows: Sequence[Mapping[str, Any]]) -> Mapping[str, Any] | None:
    """The smallest allowed file whose worst class misses nothing on all validation images.

    Where none is left with intervals widened for the choice, the one with the most room of those
    that miss nothing when taken alone.
    """
    judged = [row for row in judged_on_all(rows) if row["allowed"]]
    fit = [row for row in judged if row["feasible"]]
    if fit:
        return min(fit, key=lambda row: (row["bytes"], row["shortfall"]))
    return min((row for row in judged if row["shortfall_alone"] < 0),
               key=lambda row: (row["shortfall"], row["bytes"]), default=None)


def nearest(rows: Sequence[Mapping[str, Any]]) -> Mapping[str, Any]:
    """The row that misses least, of the allowed ones if there are any."""
    some = [row for row in judged_on_all(rows) or rows if row["allowed"]] or list(rows)
    return min(some, key=lambda row: (row["shortfall"], row["bytes"]))


def remove_intermediate(folder: Path) -> None:
    """Remove the states of fine-tuning and the containers of candidates."""
    for name in ("states", "containers"):
        shutil.rmtree(folder / name, ignore_errors=True)
