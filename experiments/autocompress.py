"""How small can a network become without harming any class?

Model: any Keras classifier of images, or a network of density maps. Candidates: quantiser (UQ, CWS,
ECSQ, TCQ), one codebook a family or a kernel, number of shared values, pruning, sensitivity,
fine-tuning with learned indices, and dropped last blocks where asked for. Selection: on validation
images; screens without training on few images proposed by a tree-structured Parzen estimator, then
successive halving with fine-tuning on all of them; a candidate is fit if every class that the
images can decide is non-inferior. Measurement: the smallest fit file is judged on the test images,
once, with paired 95% intervals. Output: the file, its report, a table and a figure of all
candidates.
"""

import sys

from cxcompress.commands.autocompress import main

if __name__ == "__main__":
    sys.exit(main())
