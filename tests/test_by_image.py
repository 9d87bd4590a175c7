"""What failed for one model moves no other image to its place, and makes no ranking look surer."""

import numpy as np

from vlmrank import ranking
from vlmrank.by_image import mean_by_image, place_by_image, stack_by_image
from vlmrank.predictions import align_logits, common_images

IDS = [f"{number}.png" for number in range(12)]


def test_images_keep_their_place():
    whole, without = np.arange(6.0).reshape(2, 3), np.array([[0.0, 2.0, np.nan], [3.0, 5.0, np.nan]])
    found, images = stack_by_image([whole, without, whole[:, [2, 0, 1]]], ["abc", "ac", "cab"])
    assert images == ("a", "b", "c")
    np.testing.assert_array_equal(found[0], whole)
    np.testing.assert_array_equal(found[1], [[0, np.nan, 2], [3, np.nan, 5]])
    np.testing.assert_array_equal(found[2], whole)


def test_a_model_that_failed_has_no_image():
    found, images = stack_by_image([np.ones((2, 3)), np.full((2, 3), np.nan)], ["abc", ""])
    assert found.shape == (2, 2, 3) and images == ("a", "b", "c") and np.isnan(found[1]).all()
    assert stack_by_image([np.empty((2, 0))], [""])[0].shape == (1, 2, 0)


def test_means_leave_out_what_is_missing():
    np.testing.assert_array_equal(mean_by_image(np.array([[1.0, np.nan], [np.nan, np.nan]])), [1.0, np.nan])
    assert mean_by_image(np.empty((2, 0))).shape == (2,)


def test_a_lost_image_leaves_one_draw_of_images_for_all(monkeypatch):
    """Where the divergences and the agreement are drawn apart, what they have in common no longer widens a rank."""
    rng, drawn = np.random.default_rng(0), []
    ids = [IDS[1:], *[IDS] * 7]
    per_image, images = stack_by_image([rng.uniform(0.1, 0.9, (6, len(names))) for names in ids], ids)
    common = common_images([np.ones((len(names), 2)) for names in ids], ids)
    extra = place_by_image(rng.normal(size=(8, len(common))), common, images)
    draw = ranking._image_draws
    monkeypatch.setattr(ranking, "_image_draws", lambda *given: drawn.append(given[0]) or draw(*given))
    accuracy, dcd = rng.uniform(0.2, 0.9, (8, 6)), np.nanmean(per_image, axis=2)
    options = ranking.RankingOptions(by="fused", bootstrap=10)
    ranking.aggregate_ranks(accuracy, dcd, options, per_image=per_image, extra=extra)
    assert drawn == [len(IDS)]


def test_common_images_are_those_of_the_aligned_logits():
    logits = [np.arange(6.0).reshape(3, 2), None, np.arange(4.0).reshape(2, 2)]
    ids = ["abc", "", "cb"]
    assert common_images(logits, ids) == ["b", "c"]
    np.testing.assert_array_equal(align_logits(logits, ids)[2], logits[2][[1, 0]])
    assert common_images([None], [""]) == []
