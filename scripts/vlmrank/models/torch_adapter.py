"""Every private name of PyTorch that we use, and nothing else."""

from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

__all__ = ["PRIVATE", "TorchDispatchMode", "changes_in_place"]

PRIVATE = ("torch.utils._python_dispatch:TorchDispatchMode", "torch:Tensor._version")


def changes_in_place(tensor: Tensor) -> int:
    """How often a tensor's memory was written to in place."""
    return tensor._version
