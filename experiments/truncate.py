"""Can a trained classifier do without its last blocks, and how does that add to compression?

Model: any classifier whose blocks are known. Treatment: its last one, two, … blocks are dropped
(Ke et al., "CheXtransfer", 2021), global average pooling and a new head put in their place, and all
sizes, the whole network too, trained alike with several seeds; then each is compressed.
Measurement: parameters, multiply-accumulates, macro AUROC on test with 95% intervals, paired
differences by class; of the compressed files bytes, AUROC and time of one image in the runtime, and
which of them nothing beats. Output: tables, two figures, models and compressed files.
"""

import sys

from cxcompress.commands.truncate import main

if __name__ == "__main__":
    sys.exit(main())
