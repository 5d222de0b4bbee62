"""Hold a validation part out of annotated fields.

Data: a folder in SHIDC-B-Ki-67's layout. Treatment: a fifth of the training fields is held out, by
patient (`--by image` as PathoNet's authors did). Output: a folder with Train, Val and Test.
"""

import sys

from cxcompress.commands.split_train_val import main

if __name__ == "__main__":
    sys.exit(main())
