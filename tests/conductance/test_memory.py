import gc
import weakref

import numpy as np
import pytest
import torch

from vlmrank.conductance import memory
from vlmrank.conductance.memory import budget_bytes, count_saved_bytes, even_chunk, is_out_of_memory, map_chunks


def test_what_counts_as_out_of_memory():
    assert is_out_of_memory(torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB"))
    assert is_out_of_memory(RuntimeError("[enforce fail] DefaultCPUAllocator: not enough memory: you tried"))
    assert is_out_of_memory(MemoryError())
    assert is_out_of_memory(RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"))
    assert not is_out_of_memory(RuntimeError("mat1 and mat2 shapes cannot be multiplied"))
    assert not is_out_of_memory(ValueError("out of memory"))


def test_a_counted_pass_that_never_goes_back_leaves_nothing():
    layer = torch.nn.Sequential(torch.nn.Linear(4, 4), torch.nn.Tanh()).requires_grad_(False)
    x = torch.ones(2, 4, requires_grad=True)
    seen = weakref.ref(x)
    with count_saved_bytes(layer.parameters):
        y = layer(x)
    del x, y
    gc.collect()
    assert seen() is None


def test_mapping_halves_and_keeps_what_is_done():
    sizes = []

    def double(samples):
        if len(samples) > 3:
            raise MemoryError
        sizes.append(len(samples))
        return 2 * samples

    np.testing.assert_array_equal(map_chunks(double, torch.arange(10), 8), 2 * np.arange(10))
    assert sizes == [2, 2, 2, 2, 2]
    with pytest.raises(ZeroDivisionError):
        map_chunks(lambda samples: 1 / 0, torch.arange(3), 2)
    with pytest.raises(MemoryError):
        map_chunks(lambda samples: (_ for _ in ()).throw(MemoryError), torch.arange(3), 2)


def test_chunks_are_even():
    for total in range(1, 60):
        for most in range(1, 70):
            chunk = even_chunk(total, most)
            assert 1 <= chunk <= min(most, total) and -(-total // chunk) == -(-total // min(most, total))


def test_saved_bytes_leave_parameters_out():
    layer = torch.nn.Linear(10, 10, bias=False)
    x = torch.zeros(4, 10, requires_grad=True)
    with count_saved_bytes(layer.parameters) as sizes:
        (layer(x) ** 2).sum()
    assert 160 <= sum(sizes.values()) <= 320, "x and its image, 160 bytes each, and no weights"


def test_the_budget_obeys_the_control_group(tmp_path, monkeypatch):
    own = tmp_path / "slurm" / "job_1"
    own.mkdir(parents=True)
    (tmp_path / "process").write_text("0::/slurm/job_1\n")
    for group, limit in ((own, "max"), (own.parent, "1000000")):
        (group / "memory.max").write_text(limit)
        (group / "memory.current").write_text("400000")
    groups = memory._control_groups(tmp_path, tmp_path / "process")
    assert groups == [own, own.parent, tmp_path]
    monkeypatch.setattr(memory, "_control_groups", lambda: groups)
    assert budget_bytes(torch.device("cpu")) == 300_000
