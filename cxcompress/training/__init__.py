"""Training with Keras: ordinary fitting, and fine-tuning of shared weights."""

from __future__ import annotations

import importlib

_HOMES = {
    "DensityBatches": "density_fitting", "FineTuned": "fine_tuning", "Fitted": "fitting",
    "ImagePipeline": "image_pipeline", "PartBatches": "fitting",
    "SharedWeightsTrainer": "shared_values", "distil": "distillation", "fine_tune": "fine_tuning",
    "fit_classifier": "fitting", "fit_density": "density_fitting",
}
__all__ = list(_HOMES)


def __getattr__(name: str):
    # Loaded when asked for: ordinary fitting runs on every backend of Keras, fine-tuning of
    # shared values on TensorFlow alone.
    if name in _HOMES:
        return getattr(importlib.import_module(f"{__name__}.{_HOMES[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
