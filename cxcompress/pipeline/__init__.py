"""The road from a Keras model to a compressed container, and the proof of what it costs.

    result = cxcompress.compress("model.h5", "covid_cxr_200px", "uCWS", k=256)
    result.save("model-uCWS.h5")
    print(result.comparison.summary())

Model and data are opened (`inputs`), the kernels share their weights, every layer is measured
alone (`layer_reports`), shared values are fine-tuned (`tuning`), the original and the compressed
model see the same images, and the two records are compared (`compressing`). Nothing here prints
or parses: the commands do.
"""

from __future__ import annotations

import importlib

_HOMES = {"CompressionResult": "compressing", "FineTuning": "tuning",
          "LayerReport": "layer_reports", "compress": "compressing"}
__all__ = list(_HOMES)


def __getattr__(name: str):
    # Loaded when asked for: opening and judging a model needs none of what compressing needs.
    if name in _HOMES:
        return getattr(importlib.import_module(f"{__name__}.{_HOMES[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
