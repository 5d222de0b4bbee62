"""`python -m cxcompress.runtime [predict] MODEL.h5 IMAGE…`: as `cxcompress predict`."""

import sys

from cxcompress.commands import main

arguments = sys.argv[1:]
sys.exit(main(arguments if arguments[:1] == ["predict"] else ["predict", *arguments]))
