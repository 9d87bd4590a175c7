"""What a job asks for."""

from pathlib import Path

import pandas as pd
import pytest

from vlmrank.workflow import resources

GPU_JOBS = pd.read_csv(Path(__file__).parents[2] / "docs" / "results" / "gpu_jobs.csv").to_dict("records")


@pytest.mark.parametrize("row", resources.MEASURED, ids=lambda row: row.architecture)
def test_the_first_attempt_holds_every_measured_model(row):
    card = {"parameters": row.parameters * 1e6, "image_size": [row.image_size, row.image_size]}
    needs = resources.conductance_needs(card, 1, images=16, points=16, gpu=False)
    assert row.peak_mb + resources.SNAKEMAKE_MB / 2 <= needs.memory_mb <= 3 * row.peak_mb + 4000
    assert needs.minutes * 60 >= 16 * 17 * row.sample_s


@pytest.mark.parametrize("row", GPU_JOBS, ids=lambda row: row["architecture"])
def test_what_a_gpu_job_takes_is_never_too_small_and_never_twice_too_large(row):
    assert 1 <= resources.gpu_sample_seconds(row) / row["sample_s"] <= 2
    if pd.notna(row["host_mb"]):
        assert 1 <= resources.gpu_job_mb(row) / row["host_mb"] <= 2
    needs = resources.conductance_needs(row, 30, images=16, points=16, gpu=True)
    assert needs.minutes * 60 >= 30 * 16 * 17 * row["sample_s"] * resources.SLOWER_CARD


def test_a_model_that_does_not_say_its_operations_is_not_taken_for_less():
    for row in GPU_JOBS:
        assert resources.gpu_sample_seconds({**row, "gflops": None}) >= resources.gpu_sample_seconds(row)


def test_needs_grow_with_the_model_its_images_and_the_attempt():
    small, large = {"parameters": 5e6, "image_size": 64}, {"parameters": 1e9, "image_size": 336}
    for gpu in (False, True):
        a = resources.conductance_needs(small, 20, images=16, points=16, gpu=gpu)
        b = resources.conductance_needs(large, 20, images=16, points=16, gpu=gpu)
        again = resources.conductance_needs(large, 20, images=16, points=16, gpu=gpu, attempt=3)
        assert a.memory_mb < b.memory_mb and a.minutes < b.minutes
        assert again.memory_mb == 3 * b.memory_mb
        assert again.minutes == min(3 * b.minutes, resources.MOST_MINUTES)
    assert (
        resources.accuracy_needs(large, 10_000, gpu=True).minutes > resources.accuracy_needs(large, 0, gpu=True).minutes
    )
    assert resources.gather_needs(40, 16, models=300).memory_mb > resources.gather_needs(40, 16).memory_mb


def test_a_card_that_says_nothing_is_taken_for_a_large_model():
    large = {"parameters": 428e6, "image_size": 224}
    for gpu in (True, False):
        unknown = resources.conductance_needs({"parameters": None}, 9, images=16, points=16, gpu=gpu)
        assert unknown == resources.conductance_needs(large, 9, images=16, points=16, gpu=gpu)


def test_only_a_model_of_known_size_is_cut_by_time():
    options = {"images": 16, "points": 16, "gpu": True}
    large, unknown = {"parameters": 2.5e9, "image_size": 224}, {"parameters": None, "image_size": 224}
    assert resources.datasets_per_job(large, 40, **options) == 40
    for minutes in (10, 30, 60, 240):
        count = resources.datasets_per_job(large, 40, minutes=minutes, **options)
        fit = resources.datasets_in(minutes, large, **options)
        assert count == 40 if fit >= 40 else fit / 2 < count <= fit
        assert resources.datasets_per_job(large, 40, most=1, minutes=minutes, **options) == 1
        assert resources.datasets_per_job(unknown, 40, most=3, minutes=minutes, **options) == 3


def test_a_chunk_fits_its_time_limit():
    card = {"parameters": 428e6, "image_size": 224}
    for minutes in (60, 240, 1440):
        count = resources.datasets_in(minutes, card, images=16, points=16, gpu=True)
        needs = resources.conductance_needs(card, count, images=16, points=16, gpu=True)
        assert count == 1 or needs.minutes <= minutes + 5
