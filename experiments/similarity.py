"""Do pruned, quantised or distilled networks still represent what the original did, layer by layer?

Data: images of one collection, the same for all networks, without labels.
Models: any number of Keras networks or compressed files with the same input.
Measurement: centred kernel alignment (linear, minibatches, unbiased HSIC₁) of every layer with
every layer: of each network with itself and of each pair. Output: a map a pair on a fixed scale
from 0 to 1, its table, and pictures of the filters and feature maps of chosen layers.
"""

import sys

from cxcompress.commands.similarity import main

if __name__ == "__main__":
    sys.exit(main())
