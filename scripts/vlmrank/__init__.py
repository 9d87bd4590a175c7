"""Rank pretrained vision-language models for a new task from a handful of unlabelled images.

The package is pure: it takes arrays, tensors, paths and keyword arguments, and knows nothing of the workflow that
calls it. Importing it, and every module for ranking, evaluation and report, does not import torch.
"""

import os
import sys

__version__ = "0.1.0"


def _without_interrupts(kind, error, trace):
    if not issubclass(kind, KeyboardInterrupt):
        sys.__excepthook__(kind, error, trace)


if "VLMRANK_RUN_LOG" in os.environ:  # in a job of a run, Ctrl-C ends the long imports without a traceback
    sys.excepthook = _without_interrupts


def list_models():
    """All weights of the installed OpenCLIP's registry, a `vlmrank.models.registry.Entry` each."""
    from vlmrank.models.registry import list_entries

    return list_entries()


def rank(images, classes=None, models=None, **options):
    """Rank models for images of a task; see `vlmrank.quickstart.rank.rank` for everything that it takes.

    Examples
    --------
    >>> import vlmrank
    >>> result = vlmrank.rank("photos/", ["cat", "dog"], "<=500M")  # doctest: +SKIP
    >>> result.best, result.table, result.code  # doctest: +SKIP
    """
    from vlmrank.quickstart.rank import rank as ranked

    return ranked(images, classes, models, **options)
