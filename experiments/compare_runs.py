"""Which of several trained models is better on the images that all of them were judged on?

Data: predictions of runs on the same images. Measurement: AUROC and average precision of each
class, means over seeds, differences from the first paired by image (DeLong clustered by patient;
bootstrap of patients); with one seed each, the verdict of non-inferiority. Output: tables and a
figure.
"""

import sys

from cxcompress.commands.compare_runs import main

if __name__ == "__main__":
    sys.exit(main())
