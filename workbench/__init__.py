"""RAHF Workbench: see where a language model holds a preference, align it there, and compare the answers."""

__version__ = "0.1.0"
