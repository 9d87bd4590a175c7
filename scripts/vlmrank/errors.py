"""Exceptions with a message for the user: what is wrong, where, what was found, what to do."""

# Status of a card, a pair and any other result.
OK, FAILED = "ok", "failed"
# Status of a model in a ranking that was not tried, with the reason.
UNTRIED = "untried"
# The next run tries results again whose reason holds these words (`vlmrank.workflow.again`).
RUN_AGAIN = "run again"
# Start of the reason of a result that succeeded without some of its images.
LEFT_OUT = "left out: "
# With these words, the card is made anew as well.
SINCE_PREPARED = "the dataset was prepared"
SINCE_FETCHED = "the model was fetched"


class VlmrankError(Exception):
    """An error in the user's input: the message is shown without a traceback."""


class FailedPair(VlmrankError):
    """One (model, dataset) pair cannot be computed: it becomes a row with this reason; other pairs go on."""


def reason_of(error: BaseException) -> str:
    """The reason to record for an error; with `RUN_AGAIN` if its cause may be gone by the next run.

    Examples
    --------
    >>> reason_of(MemoryError()), reason_of(OSError(5, "Input/output error")), reason_of(ValueError("no such class"))
    ('MemoryError; run again', '[Errno 5] Input/output error; run again', 'no such class')
    """
    text = str(error) or type(error).__name__
    passes = isinstance(error, (MemoryError, OSError)) or type(error).__name__ == "OutOfMemoryError"
    passes = passes or (isinstance(error, RuntimeError) and "out of memory" in text.lower())
    return f"{text}; {RUN_AGAIN}" if passes and RUN_AGAIN not in text else text
