"""``python -m setpointd`` is ``setpointd``."""

import sys

from setpointd.operator.entry import main

if __name__ == "__main__":
    sys.exit(main())
