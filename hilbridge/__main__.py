"""``python -m hilbridge`` is the ``hilbridge`` command."""

from __future__ import annotations

import sys

from hilbridge.cli.main import main

if __name__ == "__main__":
    sys.exit(main())
