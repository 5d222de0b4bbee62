"""Training of a built-in network.

Data: a collection with train, validation and test parts, split by patient; unknown labels are
masked. Treatment: random weights, ImageNet's or those of another model with a new head; Adam, the
learning rate halved on plateaus, a loss, augmentation; the epoch that is best on validation (loss,
or macro average precision) is kept. Thresholds and temperature are chosen on validation.
Measurement: once, on the test part: AUROC, average precision, F1, sensitivity, specificity, Brier
score and calibration error of each class, their means, of head, medium and tail classes, of sexes,
ages and views where known, with 95% intervals by patient. Output: the model and its card, its
epochs, predictions and truth, tables, ROC, precision–recall and calibration curves.
"""

import sys

from cxcompress.commands.train import main

if __name__ == "__main__":
    sys.exit(main())
