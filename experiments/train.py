"""Training of a built-in classifier.

Data: a collection with train, validation and test parts, split by patient. Treatment: Adam, the
learning rate halved on plateaus, the epoch of the lowest validation loss kept. Measurement: once,
on the test part, with 95% intervals. Output: the model, its card and its results.
"""

import sys

from cxcompress.commands.train import main

if __name__ == "__main__":
    sys.exit(main())
