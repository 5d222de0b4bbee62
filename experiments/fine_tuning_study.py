"""What does fine-tuning of shared values regain, and does it matter whether indices may change?

Model: any Keras classifier of images, or a network of density maps. Treatment: one codebook for
all convolutions and one for all dense layers (UQ, CWS, PWS, ECSQ) at fewer and fewer shared
values; then nothing, or fine-tuning with fixed indices (only shared values, biases and
BatchNormalization train), or with learned indices (latent weights train, every weight takes the
nearest shared value), both taught by labels and by the original model's outputs; several seeds.
The epoch with the lowest validation loss is kept, the untrained state included, and of several
learning rates those with the lowest mean of it. Measurement: the
share of the validation loss lost to quantisation that is regained, and accuracy, AUROC and
cross-entropy, or F1 of cells, on test images with bootstrap 95% intervals. Output: a table, two
CSV files and a figure.
"""

import sys

from cxcompress.commands.fine_tuning_study import main

if __name__ == "__main__":
    sys.exit(main())
