"""`python -m raison` is the command `raison`."""

import sys

from raison.cli import main

sys.exit(main())
