"""Which network should one compress? Families, sizes, pretraining and dropped blocks compared.

Model: any of the built-in networks, the 16 of the CheXtransfer study (Ke et al. 2021) among them.
Treatment: whole, or without its last blocks, with global average pooling and a new head in their
place; trained from random weights, or from weights trained on other radiographs, each with
several seeds, all with the same optimiser, epochs and batch size. The predictions of the epochs
with the lowest validation loss are averaged; the test part is judged once. Measurement: AUROC,
macro and by class, with 95% intervals; paired differences between truncated and whole, pretrained
and random; Spearman's rho, over networks, of AUROC with the logarithm of the parameters and with
published ImageNet accuracy, and of the gain by pretraining with the parameters. Output: tables,
four figures, models and predictions.
"""

import sys

from cxcompress.commands.architecture_study import main

if __name__ == "__main__":
    sys.exit(main())
