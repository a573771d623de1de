"""`python -m torchplug` is the command `torchplug`."""

import sys

from torchplug.cli import main

if __name__ == "__main__":
    sys.exit(main())
