"""`python -m cxcompress.runtime MODEL.h5 IMAGE…`: as `cxcompress predict`."""

import sys

from cxcompress.commands import main

sys.exit(main(["predict", *sys.argv[1:]]))
