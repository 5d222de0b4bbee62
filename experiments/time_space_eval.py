"""Time and size of a compressed file beside its original.

Treatment: the compressed network holds its weights as index maps in memory and expands them
inside the TensorFlow graph at each call. Measurement: Keras predict, the compiled Keras call and
the index-map graph, called in turns after a warm-up, medians; bytes on disk and of the weights in
memory; peak memory of a fresh process each. Output: ratios ours / original, a CSV, a figure.
"""

import sys

from cxcompress.commands.time_space_eval import main

if __name__ == "__main__":
    sys.exit(main())
