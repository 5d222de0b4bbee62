"""What a teacher is worth to a small student, and whether a pruned teacher teaches as well.

Data: any collection with labels; the epoch is chosen on validation, test is looked at once.
Models: a trained teacher, as it is and pruned; a student with fewer parameters, from the same start
and on the same batches each time.
Treatment: cross-entropy of the labels, alone or with the temperature-softened outputs of a teacher.
Measurement: accuracy, balanced accuracy and AUROC with 95% intervals, parameters and weights that
are not 0.
"""

import sys

from cxcompress.commands.distill import main

if __name__ == "__main__":
    sys.exit(main())
