"""Quantizers of weights: few shared values and an index for each weight. NumPy arrays only.

| name | class | shared values |
|---|---|---|
| CWS | `CentroidQuantizer` | least squared error: 1-D k-means, optimal |
| UQ | `UniformQuantizer` | step × integer, exact in int8 kernels |
| PWS | `ProbabilisticQuantizer` | quantiles; random, unbiased rounding |
| ECSQ | `EntropyConstrainedQuantizer` | least squared error + λ × entropy |
| TCQ | `TrellisQuantizer` | UQ's grid, walked along a trellis |

    quantizer = quantization.get("CWS", k=16)
    indices = quantizer.fit(kernel).assign(kernel)
    quality(kernel, indices, quantizer.codebook_)

    shared = share_weights(kernels, Compression.parse("pruCWS", prcnn=50, clusterfc=0))
"""

from cxcompress.quantization.centroid import CentroidQuantizer
from cxcompress.quantization.compression import COMPRESSION_NAMES, FAMILIES, Compression
from cxcompress.quantization.entropy_constrained import EntropyConstrainedQuantizer
from cxcompress.quantization.interval_lookup import nearest_level
from cxcompress.quantization.percentile_pruning import prune_percentile
from cxcompress.quantization.probabilistic import ProbabilisticQuantizer
from cxcompress.quantization.quality import Quality, quality
from cxcompress.quantization.sharing import prune_masks, share_weights
from cxcompress.quantization.trellis import TrellisQuantizer
from cxcompress.quantization.uniform import UniformQuantizer
from cxcompress.quantization.weight_quantizer import WeightQuantizer, get, names

__all__ = [
    "COMPRESSION_NAMES",
    "FAMILIES",
    "CentroidQuantizer",
    "Compression",
    "EntropyConstrainedQuantizer",
    "ProbabilisticQuantizer",
    "Quality",
    "TrellisQuantizer",
    "UniformQuantizer",
    "WeightQuantizer",
    "get",
    "names",
    "nearest_level",
    "prune_masks",
    "prune_percentile",
    "quality",
    "share_weights",
]
