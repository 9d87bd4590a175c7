"""Choose how many samples go into a pass so that they fit into memory, and recognise out-of-memory errors."""

from __future__ import annotations

import contextlib
import gc
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

CPU_SAMPLES, CUDA_SAMPLES = 16, 2048
"""Most samples per pass: beyond these a bigger batch is no faster."""
FIRST = {"cpu": 1, "cuda": 16}
"""Samples of the pass that tells how much memory a sample takes; a GPU is hardly faster with fewer."""
CPU_TENSOR_BYTES = 32 << 20
"""Most bytes of a tensor on the CPU: glibc maps bigger ones anew each time, and touching fresh pages costs more."""
_MESSAGES = (
    "out of memory",
    "not enough memory",
    "can't allocate memory",
    "cannot allocate memory",
    "bad_alloc",
    "_alloc_failed",
)


@dataclass
class Footprint:
    """Memory per sample, measured by the first pass through a tower.

    Attributes
    ----------
    bytes_per_sample : of everything kept for the backward pass, and of the reductions; None until known.
    largest : bytes of the largest tensor.
    """

    bytes_per_sample: float | None = None
    largest: float = 1.0


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an exception means that memory ran out, on a GPU or on the CPU.

    Examples
    --------
    >>> is_out_of_memory(RuntimeError("DefaultCPUAllocator: can't allocate memory")), is_out_of_memory(ValueError("x"))
    (True, False)
    """
    if isinstance(error, (MemoryError, torch.OutOfMemoryError)):
        return True
    return isinstance(error, RuntimeError) and any(text in str(error).lower() for text in _MESSAGES)


def _number(path: Path) -> int | None:
    with contextlib.suppress(OSError, ValueError):
        return int(path.read_text())
    return None


def _control_groups(root: Path = Path("/sys/fs/cgroup"), process: Path = Path("/proc/self/cgroup")) -> list[Path]:
    """The process's control group (version 2) and all above it; a scheduler's memory limit is set on one of them."""
    with contextlib.suppress(OSError):
        for line in process.read_text().splitlines():
            if line.startswith("0::"):
                own = root / line[3:].lstrip("/")
                return [own, *(parent for parent in own.parents if parent.is_relative_to(root))]
    return [root]


def _cpu_bytes() -> int:
    free = 2 << 30  # if the system does not say
    with contextlib.suppress(OSError):
        lines = dict(line.split(":", 1) for line in Path("/proc/meminfo").read_text().splitlines())
        free = int(lines["MemAvailable"].split()[0]) << 10
    for group in _control_groups():
        limit, used = _number(group / "memory.max"), _number(group / "memory.current")
        if limit is not None and used is not None:
            free = min(free, limit - used)
    with contextlib.suppress(ImportError, OSError, ValueError):
        import resource

        limit = resource.getrlimit(resource.RLIMIT_AS)[0]
        if limit != resource.RLIM_INFINITY:
            pages = int(Path("/proc/self/statm").read_text().split()[0])
            free = min(free, limit - pages * resource.getpagesize())
    return max(free, 0)


def budget_bytes(device: torch.device) -> int:
    """Return the bytes that may be used on a device now: 85 % of the free memory of a GPU, half of it on the CPU."""
    if device.type == "cuda":
        free, _ = torch.cuda.mem_get_info(device)
        free += torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
        return int(0.85 * free)
    return _cpu_bytes() // 2


@contextlib.contextmanager
def count_saved_bytes(parameters: Callable[[], Iterator[Tensor]]) -> Iterator[dict[int, int]]:
    """Collect the storages that autograd keeps for the backward pass, without the network's parameters.

    Yields a mapping from storage address to bytes, which fills as the forward pass runs.
    """
    own = {parameter.untyped_storage().data_ptr() for parameter in parameters()}
    sizes: dict[int, int] = {}

    def pack(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in own:
            sizes[storage.data_ptr()] = storage.nbytes()
        return tensor.detach()  # the tensor itself would hold its own graph, never freed if the pass fails

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        yield sizes


def release(device: torch.device) -> None:
    """Release memory after an allocation failed."""
    gc.collect()
    if device.type == "cuda":
        torch.cuda.empty_cache()


def even_chunk(total: int, most: int) -> int:
    """Return the chunk size that cuts `total` samples into equal chunks of at most `most`.

    Examples
    --------
    >>> even_chunk(272, 100), even_chunk(5, 100)
    (91, 5)
    """
    most = max(1, min(most, total))
    return -(-total // -(-total // most))


def map_chunks(function: Callable[[Tensor], Tensor], samples: Tensor, chunk: int) -> Tensor:
    """Apply `function` to chunks of `samples` and concatenate; when memory runs out, the chunk is halved and run again.

    Raises
    ------
    the last error, if a single sample does not fit.
    """
    done, start = [], 0
    while start < len(samples):
        try:
            done.append(function(samples[start : start + chunk]))
            start += chunk
            continue
        except (RuntimeError, MemoryError) as error:
            if not is_out_of_memory(error) or chunk == 1:
                raise
        chunk //= 2
        release(samples.device)
    return torch.cat(done)
