"""The sheet is shortened to what published accuracies and the budget allow; the rest keeps its reason."""

import pytest

from vlmrank.errors import VlmrankError
from vlmrank.workflow.sheets import ModelRow
from vlmrank.workflow.shortlist import download_bytes, minutes_of, shorten

NAMES = ["RN50-quickgelu--openai", "ViT-L-14--laion2b_s32b_b82k", "ViT-B-32--laion2b_s34b_b79k"]
ROWS = {name: ModelRow(name, *name.split("--")) for name in NAMES} | {"mine": ModelRow("mine", "local-dir:zoo/mine")}
CONFIG = {
    "images": {"per_dataset": 16},
    "conductance": {"points": 8, "tolerance": None, "max_points": 256, "device": "cpu"},
}


def shortened(**how):
    options = {"by": "published", "top": None, "budget_gb": None, "budget_minutes": None, **how}
    kept, reasons = shorten(ROWS, CONFIG | {"shortlist": options}, datasets=3)
    assert sorted([*kept, *reasons]) == sorted(ROWS)
    return list(kept), reasons


def test_none_leaves_the_sheet_as_it_is():
    assert shortened(by=None, top=1) == (list(ROWS), {})


def test_the_first_by_published_accuracy_are_kept_in_the_order_of_the_sheet():
    kept, reasons = shortened(top=2)
    assert kept == NAMES[1:]
    assert reasons == {
        NAMES[0]: "not on the shortlist: 3rd by published accuracy",
        "mine": "not on the shortlist: no published accuracy",
    }


def test_a_budget_of_downloads_makes_room_for_smaller_models():
    kept, reasons = shortened(budget_gb=1.1)
    assert kept == [NAMES[0], NAMES[2], "mine"]
    assert reasons[NAMES[1]].startswith("not on the shortlist: its 1.7 GB do not fit the budget of 1.1 GB")
    assert download_bytes(ROWS["mine"]) == 0 and download_bytes(ModelRow("x", "hf-hub:a/b")) is None


def test_a_budget_of_minutes_counts_what_the_jobs_ask_for():
    costs = {name: minutes_of(row, CONFIG, 3) for name, row in ROWS.items()}
    kept, reasons = shortened(budget_minutes=costs[NAMES[1]] + 0.5)
    assert kept == [NAMES[1]] and "minutes do not fit the budget" in reasons[NAMES[0]]


def test_a_budget_that_fits_nothing_is_one_message():
    with pytest.raises(VlmrankError, match="none of the 4 models fits"):
        shortened(budget_minutes=0.001)
