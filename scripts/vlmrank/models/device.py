"""Choose the device of a job; a GPU that was granted but cannot be used is a one-line error."""

from __future__ import annotations

import os
from collections.abc import Mapping

from vlmrank.errors import RUN_AGAIN, VlmrankError


def choose_device(wanted: str = "auto", *, gpus: int = 0, environment: Mapping[str, str] = os.environ) -> str:
    """Resolve `auto` and check that the device works.

    A scheduler's job that was granted a GPU does not fall back to the CPU: it would block the GPU and take a hundred
    times as long. Outside a scheduler, `auto` takes a GPU if there is one.

    Parameters
    ----------
    wanted : `auto`, `cpu` or `cuda`.
    gpus : GPUs that were requested for this job.
    environment : of this process; `SLURM_JOB_ID` marks a scheduler's job.

    Returns
    -------
    `cpu` or `cuda`.

    Raises
    ------
    VlmrankError : a GPU is required, but PyTorch has no CUDA, there is no driver or no visible GPU, or its memory is
        full.

    Examples
    --------
    >>> choose_device("cpu", gpus=1)
    'cpu'
    """
    if wanted == "cpu":
        return "cpu"
    import torch

    due = wanted == "cuda" or (gpus > 0 and "SLURM_JOB_ID" in environment)
    problem = _problem(torch)
    if not problem:
        return "cuda"
    if not due:
        return "cpu"
    where = os.uname().nodename
    job = f" (SLURM job {environment['SLURM_JOB_ID']})" if "SLURM_JOB_ID" in environment else ""
    raise VlmrankError(
        f"no usable GPU on {where}{job}: {problem}; {RUN_AGAIN} where there is one, or set conductance.device to cpu, "
        "which is slow"
    )


def _problem(torch) -> str:
    if torch.version.cuda is None and torch.version.hip is None:
        return f"PyTorch {torch.__version__} is built without CUDA (install it as envs/gpu.yaml does)"
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    shown = "" if visible is None else f", CUDA_VISIBLE_DEVICES is {visible!r}"
    if not torch.cuda.is_available():
        return f"PyTorch finds no NVIDIA driver or no GPU{shown}"
    try:
        torch.zeros(1, device="cuda")
    except RuntimeError as error:
        return f"the GPU does not answer ({str(error).splitlines()[0]}){shown}"
    return ""
