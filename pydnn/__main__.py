"""`python -m pydnn`, the same as the command `pydnn`."""

import sys

from pydnn.cli import main

if __name__ == "__main__":
    sys.exit(main())
