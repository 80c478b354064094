"""What a user did wrong, said in one line.

A `UserError` is a mistake outside the program: a missing file, a wrong type, a combination that cannot work. The command
line prints its message without a traceback and ends with exit code 2; from Python it is a `ValueError` like any other.
"""


class UserError(ValueError):
    """A mistake in the input. The message says what was wrong, where, and what to do."""
