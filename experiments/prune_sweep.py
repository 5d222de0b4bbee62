"""What do compressed networks say of every image?

Model: a built-in network trained with several seeds, or trained Keras classifiers. Treatment: L1
or random pruning to sparsities 0, 5, …, 95%, over all kernels together or layer by layer; any
quantiser at k = 256, 128, …, 2 shared values; pruning followed by quantisation. No retraining,
unless asked for. Measurement: the probability of every class for every test image, stored once
(float16 log-odds in HDF5), and the bytes of the treated network. Output: the folder that
`forgettability.py`, `exemplars.py` and `reader_study.py` read.
"""

import sys

from cxcompress.commands.prune_sweep import main

if __name__ == "__main__":
    sys.exit(main())
