"""The prior work's weights as an ordinary Keras model.

Data: an `.h5` that is a pickle of PathoNet's weights. Treatment: an unpickler that admits arrays
of floating point numbers only. Output: a Keras `.h5` and its card.
"""

import sys

from cxcompress.commands.import_pathonet import main

if __name__ == "__main__":
    sys.exit(main())
