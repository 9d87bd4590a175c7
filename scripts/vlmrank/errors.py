"""The exceptions that a user may see: each message says what is wrong, where, what was found and what to do."""


class VlmrankError(Exception):
    """A mistake in what the user gave: the message is shown alone, without a traceback."""


class FailedPair(VlmrankError):
    """One (model, dataset) pair cannot be computed: it becomes a row with this reason and takes no other pair down."""
