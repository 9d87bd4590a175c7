"""Which device a job computes on, and what it says when it does not get its GPU."""

import pytest
import torch

from vlmrank.errors import VlmrankError
from vlmrank.models.device import choose_device


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has a usable GPU")
@pytest.mark.parametrize("wanted", ["auto", "cuda"])
def test_a_granted_gpu_that_cannot_be_used_is_one_line(wanted):
    with pytest.raises(VlmrankError) as error:
        choose_device(wanted, gpus=1, environment={"SLURM_JOB_ID": "7"})
    text = str(error.value)
    assert "\n" not in text
    assert text.startswith("no usable GPU on ") and "SLURM job 7" in text
    assert "without CUDA" in text or "driver" in text


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has a usable GPU")
def test_auto_is_the_cpu_only_where_no_gpu_was_granted():
    assert choose_device("auto", gpus=1, environment={}) == "cpu"
    assert choose_device("auto", gpus=0, environment={"SLURM_JOB_ID": "7"}) == "cpu"
    assert choose_device("cpu", gpus=1, environment={"SLURM_JOB_ID": "7"}) == "cpu"
