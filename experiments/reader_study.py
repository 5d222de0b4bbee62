"""Do readers see what makes an exemplar?

Data: exemplars of a compressed network (`exemplars.py`) and as many controls, matched in their
number of labels, shuffled and without names; answers of any number of readers to three questions:
full agreement with the labels (yes, no), image quality and difficulty of the diagnosis (1 to 5).
Measurement: means and standard deviations, raw and z-scored within readers; the difference within
readers with its interval clustered by image and by reader, and by a bootstrap of both; a
permutation test that exchanges whole images among those that the same readers saw; Welch's,
Mann–Whitney's and Kruskal–Wallis's tests on pooled answers; Krippendorff's alpha of the readers.
Output: a table, a CSV and a figure.
"""

import sys

from cxcompress.commands.reader_study import main

if __name__ == "__main__":
    sys.exit(main())
