"""``python -m memfast`` is the command ``memfast`` (what torchrun starts)."""

import sys

from memfast.cli import main

sys.exit(main())
