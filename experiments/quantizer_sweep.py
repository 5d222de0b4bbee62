"""Which quantiser, and how many shared values?

Model: any Keras classifier. Treatment: UQ, CWS, PWS and ECSQ with one codebook for the network or
one a layer, with and without pruning first, at several numbers of levels; no fine-tuning.
Measurement: bytes of the file, signal-to-noise ratio of the weights, accuracy, AUROC and
cross-entropy on test images with 95% intervals, the largest change of any probability, and the
non-inferiority verdict. Output: a table, a CSV and a figure.
"""

import sys

from cxcompress.commands.quantizer_sweep import main

if __name__ == "__main__":
    sys.exit(main())
