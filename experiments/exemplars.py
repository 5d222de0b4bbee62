"""On which images does a compressed network disagree with its original, and what do they show?

Data: predictions of a sweep (`prune_sweep.py`). Measurement: probabilities are averaged over
seeds; for each test image Spearman's ρ over the classes between original and compressed network;
the 5% of images with the lowest ρ (at 90% sparsity unless told otherwise) are the exemplars. The
share of each finding, and of each number of findings, among exemplars over its share among all
other images, with bootstrap intervals (patients drawn). Output: a list of images, tables, figures
and a gallery page.
"""

import sys

from cxcompress.commands.exemplars import main

if __name__ == "__main__":
    sys.exit(main())
