"""Annotated fields at the network's size.

Data: a folder in SHIDC-B-Ki-67's layout. Treatment: fields are resized, cells moved with them and
drawn as density maps, peaks of neighbours combined by their maximum; training fields optionally in
six orientations. Output: the same layout, lossless.
"""

import sys

from cxcompress.commands.preprocessing import main

if __name__ == "__main__":
    sys.exit(main())
