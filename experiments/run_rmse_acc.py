"""Do compressed networks count the same cells, and put patients into the same clinical class?

Data: annotated Ki-67 fields in SHIDC-B-Ki-67's layout, or generated ones. Models: PathoNet and
compressed forms of it, in Keras or in the runtime. Measurement: cells paired one to one within 20
pixels, and by the original scripts' rule; precision, recall and F1 of each class; RMSE, bias,
limits of agreement and ICC of patients' Ki-67 index and TIL fraction; accuracy and weighted kappa
of cut-off classes; 95% intervals by patient. Output: CSV, JSON, Bland-Altman and confusion
figures, annotated fields and GeoJSON.
"""

import sys

from cxcompress.commands.run_rmse_acc import main

if __name__ == "__main__":
    sys.exit(main())
