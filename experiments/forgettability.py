"""Which findings does a compressed network forget first?

Data: predictions of a sweep (`prune_sweep.py`), seeds × treatments, of one collection or several.
Measurement: for each class and level the relative change of average precision, AUROC and F1
against the same seed's original, median over seeds with its order-statistics interval; the level
at which a class has first lost 20%; its change at the hardest level; the first significant drop
(Welch's test, Holm's correction). Do log training frequency and co-occurrence predict them?
Pearson's r and Spearman's ρ over classes, and over pairs of classes for the dissimilarity of
curves, with intervals from a bootstrap of classes and permutation P (Mantel for pairs). Do two
kinds of compression hurt the same classes at equal bytes? Output: tables, CSV files and figures.
"""

import sys

from cxcompress.commands.forgettability import main

if __name__ == "__main__":
    sys.exit(main())
