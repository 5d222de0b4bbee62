"""cxcompress: small, fast chest X-ray and pathology networks, and proof of what that costs.

    import cxcompress

    result = cxcompress.compress("model.h5", "images", "uCWS", k=256)   # needs the extra [train]
    result.save("model-uCWS.h5")
"""

from __future__ import annotations

import importlib

__version__ = "0.1.0"
__all__ = ["CompressionResult", "FineTuning", "compress"]


def __getattr__(name: str):
    # Loaded when asked for: reading a container must never import TensorFlow.
    if name in __all__:
        return getattr(importlib.import_module("cxcompress.pipeline"), name)
    raise AttributeError(f"module 'cxcompress' has no attribute {name!r}")
