"""The one exception that the command line turns into a sentence instead of a traceback."""


class SalonError(Exception):
    """Something the user can act on. The message says what is wrong, where, and what to do."""

    exit_code = 1


class GateError(SalonError):
    """A quality gate (validation, scorer accuracy, sentinels) did not open."""

    exit_code = 2


class DriftError(GateError):
    """The data pass every check, but are not like those that were last accepted."""

    exit_code = 3
