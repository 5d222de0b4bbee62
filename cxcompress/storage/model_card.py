"""The model card: what a compressed model is for, where it comes from and what it was measured at.

    card = ModelCard(task="multilabel", classes=("effusion", "nodule"), thresholds=(0.4, 0.2))
    ModelCard.from_dict(card.to_dict()) == card
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np


@dataclass(frozen=True)
class ModelCard:
    """A card is JSON: mappings have string keys, and values are numbers, strings, lists or null.

    NumPy scalars and tuples are accepted in `preprocessing`, `provenance` and `metrics`; they
    become plain numbers and lists at once, and NaN becomes None.

    Args:
        task: `"multiclass"`, `"multilabel"`, `"nuclei"`, or empty where unknown.
        classes: Class names, in the order of the outputs.
        thresholds: One a class, or None where the task has none or none were chosen.
        preprocessing: `Preprocessing.to_dict()`, or None where unknown.
        recommended_plan: The graph plan that `auto` takes, or None.
        provenance: The original model, data, compression, seed.
        metrics: What was measured, before and after.
        licence: Of the weights.
        synthetic: Whether model or data are generated, not clinical.
        from_logits: Whether the outputs are logits; None where unknown.

    Raises:
        ValueError: If a field is of another type.
    """

    task: str = ""
    classes: tuple[str, ...] = ()
    thresholds: tuple[float, ...] | None = None
    preprocessing: Mapping[str, Any] | None = None
    recommended_plan: str | None = None
    provenance: Mapping[str, Any] = field(default_factory=dict)
    metrics: Mapping[str, Any] = field(default_factory=dict)
    licence: str = ""
    synthetic: bool = False
    from_logits: bool | None = None

    def __post_init__(self):
        plain: dict[str, Any] = {}
        for name in ("preprocessing", "provenance", "metrics"):
            value = getattr(self, name)
            if not isinstance(value, Mapping) and not (name == "preprocessing" and value is None):
                raise ValueError(f"{name} is a mapping. Received: {type(value).__name__}")
            plain[name] = plain_json(value)
        for name in ("task", "licence"):
            _check(name, getattr(self, name), str)
        if self.recommended_plan is not None:
            _check("recommended_plan", self.recommended_plan, str)
        plain["synthetic"] = bool(_check("synthetic", self.synthetic, bool | np.bool_))
        if self.from_logits is not None:
            _check("from_logits", self.from_logits, bool)
        _check("classes", self.classes, tuple | list)
        plain["classes"] = tuple(str(_check("classes", name, str)) for name in self.classes)
        if self.thresholds is not None:
            thresholds = [plain_json(value) for value in self.thresholds]
            if not all(type(value) in (int, float) for value in thresholds):
                raise ValueError(f"thresholds are finite numbers. Received: {self.thresholds}")
            plain["thresholds"] = tuple(map(float, thresholds))
        for name, value in plain.items():
            object.__setattr__(self, name, value)

    def to_dict(self) -> dict[str, Any]:
        """The card as JSON types."""
        return plain_json({f.name: getattr(self, f.name) for f in dataclasses.fields(self)})

    @classmethod
    def from_dict(cls, fields: Mapping[str, Any]) -> ModelCard:
        """Inverse of `to_dict`.

        Raises:
            ValueError: If a field is unknown or of another type.
        """
        _check("a model card", fields, Mapping)
        known = {f.name for f in dataclasses.fields(cls)}
        if unknown := sorted(set(fields) - known):
            raise ValueError(f"a model card has the fields {', '.join(sorted(known))}. "
                             f"Received: {', '.join(map(str, unknown))}")
        return cls(**fields)


def _check(name: str, value: Any, kind: Any) -> Any:
    if not isinstance(value, kind):
        raise ValueError(f"{name} is of another type. Received: {type(value).__name__}")
    return value


def plain_json(value: Any) -> Any:
    """The value in JSON types: string keys, lists, Python numbers; NaN and infinities are None.

    Raises:
        ValueError: If it holds anything that JSON has no word for.
    """
    if isinstance(value, Mapping):
        return {str(key): plain_json(item) for key, item in value.items()}
    if isinstance(value, np.ndarray | np.generic):
        return plain_json(value.tolist())
    if isinstance(value, list | tuple):
        return [plain_json(item) for item in value]
    if value is None or isinstance(value, str | bool | int):
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    raise ValueError(f"not writable as JSON. Received: {type(value).__name__}")
