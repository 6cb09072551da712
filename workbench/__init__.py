"""RAHF Workbench: see where a language model holds a preference, align it there, and compare the answers."""

import os

__version__ = "0.1.0"

# A thread of torch that waits for another spins for milliseconds unless told otherwise, and starves it where the machine has
# more to do: on two cores that two others kept busy, a training step took 0.5 to 10 s so, and 0.2 to 0.45 s with this (on
# idle ones 5% longer). Read when torch is loaded.
os.environ.setdefault("GOMP_SPINCOUNT", "1000")
