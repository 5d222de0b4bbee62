"""`python -m cxcompress <command>`: for machines where pip's scripts are not on the path."""

from __future__ import annotations

import sys

from cxcompress.commands import main

if __name__ == "__main__":
    sys.exit(main())
