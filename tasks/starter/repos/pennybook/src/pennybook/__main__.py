"""`python -m pennybook`."""

import sys

from pennybook.cli import main

sys.exit(main())
