"""How much does a training depend on its seed?

Model: a built-in network. Treatment: the same training with several seeds (of the weights at the
start, the order of images and their augmentation). Measurement: the primary metric on validation
and on test images, with its 95% interval, for each seed. The seed with the lowest validation loss
is kept, whatever its test result. Output: a table, a CSV, the model and its card.
"""

import sys

from cxcompress.commands.train_seeds import main

if __name__ == "__main__":
    sys.exit(main())
