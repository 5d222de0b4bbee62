"""How pruning is applied: one-shot, iterative and layerwise, at equal and at the study's budgets.

Data: any collection with labels; the epoch, and of several strategies the best, are chosen on
validation, and every network is judged once on test.
Model: one or several trained Keras networks (several seeds of one training, say).
Treatment: weights of least magnitude (or random ones, or those of least |w·g|) are set to 0, all at
once, by tenths, or layer by layer, and the rest is fine-tuned; or filters are removed for real.
Measurement: accuracy, balanced accuracy and AUROC with 95% intervals, weights that stay, bytes of
the compressed file, time in the runtime.
"""

import sys

from cxcompress.commands.prune import main

if __name__ == "__main__":
    sys.exit(main())
