"""Rank pretrained vision-language models for a new task from a handful of unlabelled images.

The package is pure: it takes arrays, tensors, paths and keyword arguments, and knows nothing of the workflow that
calls it. Importing it, and every module for ranking, evaluation and report, does not import torch.
"""

__version__ = "0.1.0"


def list_models():
    """All weights of the installed OpenCLIP's registry, a `vlmrank.models.registry.Entry` each."""
    from vlmrank.models.registry import list_entries

    return list_entries()
