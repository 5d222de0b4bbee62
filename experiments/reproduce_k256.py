"""PathoNet at 256 shared values: what four quantisers cost the count of cells and the clinic.

Model: PathoNet. Treatment: one codebook of 256 values for all convolutions, by CWS, PWS, UQ and
ECSQ; no fine-tuning, or the paper's (`--epochs 75`). Data: generated Ki-67 fields, or
SHIDC-B-Ki-67; test patients are looked at once. Measurement: bytes, time of one field, F1 of each
cell class, RMSE of patients' Ki-67 index and TIL fraction, cut-off accuracy, 95% intervals by
patient. Output: CSV, JSON, containers and figures.
"""

import sys

from cxcompress.commands.reproduce_k256 import main

if __name__ == "__main__":
    sys.exit(main())
