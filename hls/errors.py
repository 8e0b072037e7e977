"""The one error type a user is meant to read."""


class HeepgenError(Exception):
    """Bad input: one sentence saying what is wrong, why, and what to do."""
