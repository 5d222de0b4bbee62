"""Compression of a trained network by weight sharing, and what it costs the diagnosis.

Model: any Keras classifier. Treatment: its kernels share the values of a codebook (UQ, CWS, PWS
or ECSQ), one a layer or one for the network, after optional magnitude pruning. Measurement: size
of the compressed file; each layer's signal-to-noise ratio and its effect alone on the output;
accuracy, AUROC, average precision, cross-entropy and calibration on test images, before and
after, with 95% intervals; a non-inferiority verdict per class. Output: a run folder with the
compressed .h5, tables, figures and report.html.
"""

import sys

from cxcompress.commands.compress import main

if __name__ == "__main__":
    sys.exit(main())
