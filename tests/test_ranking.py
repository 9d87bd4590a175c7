import numpy as np
import pytest

from vlmrank.ranking import RankingOptions, aggregate_ranks, average_ranks, percentile_ranks, source_weights, tied_ranks

NAN = np.nan


def rank(accuracy, dcd, *, per_image=None, extra=None, **options):
    return aggregate_ranks(accuracy, dcd, RankingOptions(**options), per_image=per_image, extra=extra)


def bench(models=9, sources=6, images=7, seed=0):
    generator = np.random.default_rng(seed)
    accuracy = generator.uniform(size=(models, sources))
    per_image = generator.uniform(size=(models, sources, images))
    return accuracy, per_image


def test_percentile_ranks_by_hand():
    found = percentile_ranks(np.array([[0.1, 0.5], [0.3, NAN], [0.3, 0.9], [0.8, 0.5]]))
    expected = [[0.125, 1 / 3], [0.5, NAN], [0.5, 5 / 6], [0.875, 1 / 3]]
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-12)


def weights_of(dcd, kappa=0.5, **options):
    return source_weights(np.array([dcd]), kappa=kappa, **options)[0]


def test_weights_by_hand():
    # mean 2, std 1: softmax of (1, -1) / .5
    expected = np.exp([2.0, -2.0]) / np.exp([2.0, -2.0]).sum()
    np.testing.assert_allclose(weights_of([1.0, 3.0]), expected, rtol=0, atol=1e-12)
    np.testing.assert_allclose(weights_of([1.0, NAN, 3.0])[[0, 2]], expected, atol=1e-12)
    np.testing.assert_allclose(weights_of([2.0, 2.0, NAN]), [0.5, 0.5, 0], rtol=0, atol=0)
    np.testing.assert_allclose(weights_of([1.0, 3.0], kappa=np.inf), [0.5, 0.5], rtol=0, atol=1e-12)
    assert np.isnan(weights_of([NAN, NAN])).all()


def test_weights_counted_twice_are_the_weights_of_the_doubled_list():
    doubled = weights_of([0.3, 0.9, 0.9], kappa=0.7)
    counted = weights_of([0.3, 0.9, 0.4], kappa=0.7, count=np.array([1, 2, 0]))
    np.testing.assert_allclose(counted, [doubled[0], doubled[1:].sum(), 0], rtol=0, atol=1e-12)


def test_shrunken_weights_mix_the_standardised_divergences():
    dcd = np.random.default_rng(0).uniform(size=(4, 6)) * np.array([[1.0], [10.0], [3.0], [1.0]])
    z = (dcd - dcd.mean(axis=1, keepdims=True)) / dcd.std(axis=1, keepdims=True)
    for shrink in (0.0, 0.3, 1.0):
        mixed = (1 - shrink) * z + shrink * z.mean(axis=0)
        mixed /= mixed.std(axis=1, keepdims=True)
        expected = np.exp(-mixed / 0.7) / np.exp(-mixed / 0.7).sum(axis=1, keepdims=True)
        found = source_weights(dcd, kappa=0.7, shrink=shrink)
        np.testing.assert_allclose(found, expected, rtol=0, atol=1e-12)
    np.testing.assert_allclose(found, np.tile(found[:1], (4, 1)), rtol=0, atol=1e-12)
    # a model's missing source is left out, and the others' voices on it still count
    dcd[0, 2] = NAN
    found = source_weights(dcd, kappa=0.7, shrink=0.5)
    assert found[0, 2] == 0
    np.testing.assert_allclose(found.sum(axis=1), 1.0, rtol=0, atol=1e-12)
    # one model alone is not changed
    np.testing.assert_allclose(weights_of(dcd[1], shrink=0.5), weights_of(dcd[1]), rtol=0, atol=1e-12)


def test_score_is_the_weighted_mean_of_the_ranks():
    accuracy, per_image = bench()
    dcd = per_image.mean(axis=2)
    found = rank(accuracy, dcd, kappa=0.6, shrink=0.0)
    for m in range(9):
        logits = -(dcd[m] - dcd[m].mean()) / (0.6 * dcd[m].std())
        weights = np.exp(logits) / np.exp(logits).sum()
        ranks = [((accuracy[:, s] < accuracy[m, s]).sum() + 0.5) / 9 for s in range(6)]
        np.testing.assert_allclose(found.score[m], weights @ ranks, rtol=0, atol=1e-12)
        np.testing.assert_allclose(found.weights[m], weights, rtol=0, atol=1e-12)
    np.testing.assert_array_equal(found.rank, np.argsort(np.argsort(-found.score)) + 1)
    assert np.isnan(found.rank_low).all()
    assert np.isnan(found.fused).all()


def test_missing_accuracies_and_models_without_sources():
    accuracy, per_image = bench()
    dcd = per_image.mean(axis=2)
    accuracy[0, 1] = NAN
    accuracy[3] = NAN
    dcd[4] = NAN
    found = rank(accuracy, dcd, per_image=per_image, bootstrap=50)
    assert np.isnan(found.score[[3, 4]]).all()
    assert np.isnan(found.rank[[3, 4]]).all()
    assert np.isnan(found.p_top5[[3, 4]]).all()
    assert found.weights[0, 1] == 0
    assert sorted(found.rank[np.isfinite(found.rank)]) == [1, 2, 3, 4, 5, 6, 7]
    np.testing.assert_allclose(np.nansum(found.weights, axis=1)[[0, 1, 2]], 1.0, rtol=0, atol=1e-12)
    none = rank(np.full((2, 2), NAN), np.ones((2, 2)), bootstrap=3)
    assert np.isnan(none.rank).all()


def test_bootstrap_agrees_with_a_loop():
    accuracy, per_image = bench()
    found = rank(accuracy, per_image.mean(axis=2), per_image=per_image, bootstrap=3000, seed=1, kappa=0.6, shrink=0.5)
    generator = np.random.default_rng(2)
    ranks = []
    for _ in range(1500):
        sources, images = generator.integers(6, size=6), generator.integers(7, size=7)
        dcd = per_image[:, sources][:, :, images].mean(axis=2)
        weights = source_weights(dcd, kappa=0.6, shrink=0.5)
        score = (weights * percentile_ranks(accuracy)[:, sources]).sum(axis=1)
        ranks.append(np.argsort(np.argsort(-score)) + 1)
    np.testing.assert_allclose(found.p_top5, (np.array(ranks) <= 5).mean(axis=0), rtol=0, atol=0.05)
    assert (found.rank_low <= found.rank_high).all()
    assert np.abs(found.rank_low - np.quantile(ranks, 0.025, axis=0)).max() <= 1
    assert np.abs(found.rank_high - np.quantile(ranks, 0.975, axis=0)).max() <= 1


def test_bootstrap_is_the_same_for_a_seed_whatever_was_drawn_before():
    accuracy, per_image = bench()
    options = {"per_image": per_image, "bootstrap": 40}
    first = rank(accuracy, per_image.mean(axis=2), seed=3, **options)
    again = rank(accuracy, per_image.mean(axis=2), seed=3, **options)
    other = rank(accuracy, per_image.mean(axis=2), seed=4, **options)
    np.testing.assert_array_equal(first.p_top5, again.p_top5)
    assert np.abs(first.p_top5 - other.p_top5).max() > 0


def test_images_that_a_dataset_lacks_are_left_out():
    accuracy, per_image = bench()
    dcd = per_image.mean(axis=2)
    padded = np.concatenate([per_image, np.full((9, 6, 3), NAN)], axis=2)
    found = rank(accuracy, dcd, per_image=padded, bootstrap=200)
    assert np.isfinite(found.p_top5).all()
    np.testing.assert_allclose(found.p_top5.sum(), 5.0, rtol=0, atol=0.2)


def test_fused_adds_the_standardised_extra_statistic():
    accuracy, per_image = bench()
    dcd = per_image.mean(axis=2)
    extra = np.arange(9.0)
    extra[2] = NAN
    plain = rank(accuracy, dcd)
    fused = rank(accuracy, dcd, extra=extra, fuse=0.5, by="fused", bootstrap=20)
    z = [(values - np.nanmean(values)) / np.nanstd(values) for values in (plain.score, extra)]
    expected = z[0] + 0.5 * np.nan_to_num(z[1])
    np.testing.assert_allclose(fused.fused, expected, rtol=0, atol=1e-12)
    np.testing.assert_allclose(fused.score, plain.score, rtol=0, atol=1e-12)
    np.testing.assert_array_equal(fused.rank, np.argsort(np.argsort(-expected)) + 1)
    for fuse in (100.0, np.inf):
        swamped = rank(accuracy, dcd, extra=np.arange(9.0), fuse=fuse, by="fused", bootstrap=20)
        np.testing.assert_array_equal(swamped.rank_low, np.arange(9, 0, -1))
    alone = (np.arange(9.0) - 4) / np.std(np.arange(9.0))
    np.testing.assert_allclose(swamped.fused, alone, rtol=0, atol=1e-12)


def test_average_ranks_count_the_sources_on_which_a_model_is_known():
    accuracy, _ = bench()
    known = ~np.isnan(accuracy)
    ranks = percentile_ranks(accuracy)
    found = average_ranks(accuracy)
    for model in np.flatnonzero(known.any(axis=1)):
        assert found[model] == pytest.approx(ranks[model][known[model]].mean(), abs=1e-12)
    assert np.isnan(average_ranks(np.array([[NAN, NAN], [0.1, NAN]]))[0])


def test_an_extra_statistic_of_each_image_is_resampled_with_the_images():
    accuracy, per_image = bench()
    dcd = per_image.mean(axis=2)
    extra = np.random.default_rng(7).uniform(size=(9, 7))
    extra[3] = NAN
    options = {"per_image": per_image, "bootstrap": 2000, "by": "fused", "fuse": 1000.0}
    found = rank(accuracy, dcd, extra=extra, **options)
    fixed = rank(accuracy, dcd, extra=extra.mean(axis=1), **options)
    np.testing.assert_allclose(found.fused, fixed.fused, rtol=1e-12, atol=1e-12)
    np.testing.assert_array_equal(fixed.rank_low, fixed.rank_high)
    draws = np.random.default_rng(8).integers(7, size=(2000, 7))
    known = np.delete(extra, 3, axis=0)[:, draws].mean(axis=2)
    first = (known.argmax(axis=0)[:, None] == np.arange(8)).mean(axis=0)
    ranked_first = found.rank_low == 1
    assert ranked_first[np.delete(np.arange(9), 3)[first > 0.1]].all()


def test_predictions_of_more_images_than_the_divergence_has_are_resampled_by_themselves():
    accuracy, per_image = bench()
    dcd = per_image.mean(axis=2)
    extra = np.random.default_rng(7).uniform(size=(9, 40))
    options = {"per_image": per_image, "bootstrap": 400, "by": "fused", "fuse": 1000.0}
    found = rank(accuracy, dcd, extra=extra, **options)
    draws = np.random.default_rng(8).integers(40, size=(4000, 40))
    ranks = np.argsort(np.argsort(-extra[:, draws].mean(axis=2), axis=0), axis=0) + 1
    assert np.abs(found.rank_low - np.quantile(ranks, 0.025, axis=1)).max() <= 1
    assert np.abs(found.rank_high - np.quantile(ranks, 0.975, axis=1)).max() <= 1
    assert (found.rank_high - found.rank_low).mean() > 1


def test_refuses_shapes_and_an_unknown_score():
    accuracy, per_image = bench()
    dcd = per_image.mean(axis=2)
    for options in ({"by": "fused"}, {"by": "name"}, {"per_image": per_image[:3]}, {"extra": np.ones(3)}):
        with pytest.raises(ValueError):
            rank(accuracy, dcd, **options)
    with pytest.raises(ValueError):
        rank(accuracy, dcd[:, :2])


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"fuse": NAN}, "fuse must not be negative, not nan"),
        ({"fuse": -1.0}, "not -1"),
        ({"kappa": 0.0}, "kappa must be positive, not 0"),
        ({"kappa": NAN}, "not nan"),
        ({"shrink": 1.5}, "from 0 to 1, not 1.5"),
        ({"shrink": NAN}, "not nan"),
        ({"level": 1.0}, "level must be between 0 and 1"),
        ({"bootstrap": -1}, "bootstrap not negative"),
    ],
)
def test_an_option_out_of_range_is_refused_with_its_value(options, words):
    accuracy, per_image = bench()
    with pytest.raises(ValueError, match=words):
        rank(accuracy, per_image.mean(axis=2), extra=np.ones(9), **options)


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("accuracy", 50.0, r"accuracy\[2, 1\] is 50: an accuracy is a share from 0 to 1"),
        ("accuracy", -3.0, r"accuracy\[2, 1\] is -3"),
        ("accuracy", np.inf, r"accuracy\[2, 1\] is inf"),
        ("dcd", np.inf, r"dcd\[2, 1\] is inf: a divergence is finite"),
        ("per_image", -np.inf, r"per_image\[2, 1\, 0] is -inf"),
        ("extra", np.inf, r"extra\[2, 1\] is inf: a statistic is finite"),
    ],
)
def test_a_value_out_of_range_is_refused_with_its_place(name, value, words):
    accuracy, per_image = bench()
    given = {"accuracy": accuracy, "dcd": per_image.mean(axis=2), "per_image": per_image, "extra": np.ones((9, 7))}
    given[name][(2, 1, 0)[: given[name].ndim]] = value
    with pytest.raises(ValueError, match=words):
        rank(**given)


def test_a_negative_count_of_a_source_is_refused():
    with pytest.raises(ValueError, match="count must not be negative, and is -1"):
        weights_of([1.0, 2.0], count=np.array([1.0, -1.0]))


def test_equal_scores_share_a_rank_whatever_rounding_says():
    # rows 0 and 1 rank alike on sources that weigh the same: only the order of the sum differs
    accuracy = np.array(
        [[0.9, 0.5, 0.5, 0.9, 0.5, 0.5], [0.5, 0.9, 0.5, 0.5, 0.9, 0.5], [0.5, 0.5, 0.9, 0.5, 0.5, 0.9]]
    )
    dcd = np.full((3, 6), 0.1)
    for order in (np.arange(6), np.array([5, 3, 1, 0, 4, 2])):
        found = rank(accuracy[:, order], dcd)
        np.testing.assert_array_equal(found.rank, [2.0, 2.0, 2.0])
    np.testing.assert_array_equal(tied_ranks([0.1 + 0.2, 0.3, 0.6, NAN, 0.3 - 1e-6]), [2.5, 2.5, 4.0, NAN, 1.0])
    np.testing.assert_array_equal(
        tied_ranks([[-np.inf, 0.0, -np.inf], [2.0, 1.0, 1.0]]), [[1.5, 3, 1.5], [3, 1.5, 1.5]]
    )


def test_the_order_of_the_sources_decides_no_rank():
    generator = np.random.default_rng(3)
    accuracy = generator.integers(0, 3, size=(12, 8)) / 2  # many ties
    dcd = np.full((12, 8), 0.3)
    expected = rank(accuracy, dcd).rank
    assert len(set(expected)) < 12
    for _ in range(50):
        order = generator.permutation(8)
        np.testing.assert_array_equal(rank(accuracy[:, order], dcd).rank, expected)
