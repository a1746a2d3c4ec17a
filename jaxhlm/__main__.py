"""``python -m jaxhlm`` is the command ``jaxhlm``."""

import sys

from jaxhlm.cli.main import main

if __name__ == "__main__":
    sys.exit(main())
