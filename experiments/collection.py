"""What does a collection hold, and does it match its label table?

Data: a collection in a published layout. Measurement: rows without images and images without rows,
images named twice, unknown labels, unreadable images, patients in two parts; images, patients,
views, sexes and ages of each part; positives of each class; images in which two classes occur
together (their Jaccard index from the counts themselves). Output: tables, and a figure of
co-occurrence.
"""

import sys

from cxcompress.commands.collection import main

if __name__ == "__main__":
    sys.exit(main())
