"""The one exception that the command line turns into a sentence instead of a traceback."""


class SalonError(Exception):
    """Something the user can act on. The message says what is wrong, where, and what to do."""


class GateError(SalonError):
    """A quality gate (validation, scorer accuracy, sentinels) did not open."""
