"""Does a classifier look at the finding, and does a smaller or compressed one look elsewhere?

Data: generated radiographs, whose findings were drawn and so are known to the pixel, or the images
of NIH ChestX-ray14 that radiologists drew boxes on. Models: any Keras classifiers or compressed
files of the same classes. Treatment: Grad-CAM (Selvaraju et al. 2017) of each labelled finding's
class. Measurement: the pointing game, intersection over union of the hottest pixels with the
finding, the share of the map on it, and the correlation of each model's maps with the first one's;
means with bootstrap 95% intervals by patient, paired differences. Output: tables, a figure and a
gallery.
"""

import sys

from cxcompress.commands.localisation import main

if __name__ == "__main__":
    sys.exit(main())
