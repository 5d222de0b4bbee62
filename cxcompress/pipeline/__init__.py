"""The road from a Keras model to a compressed container, and the proof of what it costs.

    result = cxcompress.compress("model.h5", "covid_cxr_200px", "uCWS", k=256)
    result.save("model-uCWS.h5")
    print(result.comparison.summary())

Model and data are opened (`inputs`), the kernels share their weights, every layer is measured
alone (`layer_reports`), shared values are fine-tuned (`tuning`), the original and the compressed
model see the same images, and the two records are compared (`compressing`). Nothing here prints
or parses: the commands do.
"""

from cxcompress.pipeline.compressing import CompressionResult, compress
from cxcompress.pipeline.layer_reports import LayerReport
from cxcompress.pipeline.tuning import FineTuning

__all__ = ["CompressionResult", "FineTuning", "LayerReport", "compress"]
