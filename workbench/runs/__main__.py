"""``python -m workbench.runs FOLDER``: the process that works on one run."""

import sys

from workbench.runs.worker import main

sys.exit(main())
