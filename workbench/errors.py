"""The two ways work ends early that are not faults of the program."""


class UserError(Exception):
    """Something the user can mend. ``str(error)`` is one sentence: what is wrong and what to do."""


class Stopped(Exception):
    """The work was asked to stop. What was done up to then is on disk and can be resumed."""
