"""``python -m workbench``: the command line."""

from workbench import processes
from workbench.cli import main

if __name__ == "__main__":
    processes.end(main())
