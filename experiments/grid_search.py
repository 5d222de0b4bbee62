"""What does every combination of quantiser, shared values, λ, pruning and learning rates cost?

Model: any Keras classifier of images, or a network of density maps. Treatment: the grids of the
studies of weight sharing (shared values, λ of ECSQ, learning rates of biases and of shared
values), every combination once. Selection: on validation images, never on test. Measurement: the
smallest file that is non-inferior on validation is judged on the test images, once, with paired
95% intervals. Output: the file, its report, a table and a figure of the grid.
"""

import sys

from cxcompress.commands.grid_search import main

if __name__ == "__main__":
    sys.exit(main())
