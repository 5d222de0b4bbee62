"""Does going from task to task help a small collection: pneumonia, cardiomegaly, 14 diseases?

Data: a pneumonia collection, and a multilabel one split by patient. Treatment: *chain* trains the
network on pneumonia, replaces its head and trains on cardiomegaly against no finding, replaces it
again and trains on all diseases; *chain, backbone frozen* trains only the heads after the first
stage; *direct* trains on all diseases from random weights for as many images as the chain sees.
The rest is the same: Adam, augmentation, the best epoch on validation, several seeds. Images that
were read for one finding alone have their other labels masked. Measurement: AUROC and average
precision of each disease on the test patients, means over seeds, differences paired by image.
Output: tables, models, predictions and a figure.
"""

import sys

from cxcompress.commands.adaptive_finetune import main

if __name__ == "__main__":
    sys.exit(main())
