"""When which kernels are pruned how far: one-shot, iterative and layerwise pruning as stages.

    plan = stages("iterative", 0.8, steps=1_000, kernels=prunable_kernels(model))
    model.fit(…, callbacks=[PruneInStages(plan)])     # with as many steps as the plan was made for

All strategies spend the same number of training steps, so that they differ only in when they prune:

- `oneshot`: everything before the first step, then fine-tuning.
- `iterative`: targets 10, 20, … percent up to the sparsity, an equal share of the steps after each.
- `layerwise`: the sparsity in one kernel (or block) after the other, in network order, an equal
  share of the steps after each.

The study's own, unequal budgets (`study_epochs`): 10 epochs, 10 after each target, 100 after each
layer.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from cxcompress.errors import InputError
from cxcompress.models.kernels import Kernel
from cxcompress.pruning.during_training import PruneDuringTraining, Schedule
from cxcompress.pruning.masks import check_sparsity
from cxcompress.pruning.scopes import groups

STRATEGIES = ("oneshot", "iterative", "layerwise")
STUDY_EPOCHS = {"oneshot": 10, "iterative": 10, "layerwise": 100}
"""Epochs after each stage in the study that this follows."""


@dataclass(frozen=True)
class Stage:
    """One pruning, and the training after it.

    Args:
        first_step: Training step before which it prunes.
        sparsity: Of each of its groups, at its end.
        groups: Kernel paths by group: those of a group share a threshold.
        steps: Training steps until the next stage.
        start_sparsity: Where a gradual stage begins; at once if it equals `sparsity`.
    """

    first_step: int
    sparsity: float
    groups: Mapping[str, Sequence[str]]
    steps: int
    start_sparsity: float | None = None


def targets(sparsity: float) -> list[float]:
    """The sparsities of iterative pruning: every tenth below the last, and the last."""
    tenths = [tenth / 10 for tenth in range(1, 10) if tenth / 10 < sparsity - 1e-9]
    return [*tenths, sparsity]


def stages(
    strategy: str, sparsity: float, steps: int, kernels: Sequence[Kernel], scope: str = "global",
) -> list[Stage]:
    """The stages of a strategy; all strategies fill the same number of steps.

    Args:
        strategy: One of `STRATEGIES`.
        sparsity: To reach, 0 ≤ sparsity < 1.
        steps: Training steps in all.
        kernels: To prune, in network order.
        scope: Which kernels share a threshold; layerwise pruning goes kernel by kernel, or with
            `"group"` block by block.

    Raises:
        InputError: If the strategy is unknown, the sparsity out of range, or there are fewer steps
            than stages.
    """
    if strategy not in STRATEGIES:
        raise InputError(f"--strategy {strategy}: choose one of {', '.join(STRATEGIES)}")
    check_sparsity(sparsity)
    together = groups(kernels, scope)
    if strategy == "oneshot":
        wanted = [(sparsity, together)]
    elif strategy == "iterative":
        wanted = [(target, together) for target in targets(sparsity)]
    else:
        one_by_one = groups(kernels, "group" if scope == "group" else "layer")
        wanted = [(sparsity, {name: paths}) for name, paths in one_by_one.items()]
    if steps < len(wanted):
        raise InputError(f"{strategy} pruning has {len(wanted)} stages, more than the {steps} "
                         "training steps there are; give more --epochs")
    starts = [number * steps // len(wanted) for number in range(len(wanted) + 1)]
    return [Stage(first, some, which, following - first) for (some, which), first, following
            in zip(wanted, starts[:-1], starts[1:], strict=True)]


def study_epochs(strategy: str, plan: Sequence[Stage]) -> int:
    """Epochs that the study spent on as many stages."""
    return STUDY_EPOCHS[strategy] * len(plan)


def gradually(plan: Sequence[Stage], share: float = 0.5) -> list[Stage]:
    """The same stages, each growing its sparsity over the first `share` of its steps.

    Growth is `PolynomialDecay`'s, from the sparsity that the kernels have to the stage's.
    Reference: Zhu and Gupta (2017), "To prune, or not to prune".
    """
    reached: dict[str, float] = {}
    found = []
    for stage in plan:
        start = min(reached.get(name, 0.0) for name in stage.groups)
        found.append(replace(stage, start_sparsity=start))
        reached |= dict.fromkeys(stage.groups, stage.sparsity)
    return found


class PruneInStages(PruneDuringTraining):
    """Prunes as the stages say; a `PruneDuringTraining` whose groups change over time.

    Args:
        plan: From `stages`, perhaps made gradual by `gradually`.
        exclude: Layers that are not pruned, as for the kernels that the plan was made for.
        share: Of a gradual stage's steps over which it prunes.
        **arguments: `score`, `seed`, `state_file`, as for `PruneDuringTraining`.
    """

    def __init__(self, plan: Sequence[Stage], *, exclude: Sequence[str] = (), share: float = 0.5,
                 **arguments: Any):
        super().__init__(lambda step: (False, 0.0), exclude=exclude, **arguments)
        self.plan, self.share = list(plan), share
        self._schedules = {stage.first_step: self._schedule(stage) for stage in self.plan}

    @property
    def complete(self) -> bool:
        """Whether the last stage has reached its sparsity."""
        last = self.plan[-1]
        gradual = last.start_sparsity is not None
        return self.step > last.first_step + (round(self.share * last.steps) if gradual else 0)

    def _schedule(self, stage: Stage) -> Schedule:
        if stage.start_sparsity is None:
            return lambda step: (step == 0, stage.sparsity)
        from tensorflow_model_optimization.sparsity.keras import PolynomialDecay

        end = max(round(self.share * stage.steps), 1)
        decay = PolynomialDecay(stage.start_sparsity, stage.sparsity, 0, end,
                                frequency=max(end // 10, 1))
        return lambda step: (decay(step)[0] or step == end, decay(step)[1])

    def _turn(self, step: int):
        stage = next((stage for stage in reversed(self.plan) if stage.first_step <= step), None)
        if stage is None:
            return None
        update, sparsity = self._schedules[stage.first_step](step - stage.first_step)
        return (float(sparsity), stage.groups) if bool(update) else None

    def _finish(self) -> None:
        for stage in self.plan:
            if stage.first_step <= self.step:
                self._prune(stage.sparsity, stage.groups)

    def _about(self):
        return {"plan": [asdict(stage) for stage in self.plan], "exclude": list(self.exclude)}
