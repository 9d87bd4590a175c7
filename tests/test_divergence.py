import numpy as np
import pytest

from vlmrank.divergence import KINDS, directional_conductance_divergence, pair_divergence
from vlmrank.representation import represent

CHANNELS = (6, 9, 4)


def tasks(images=(5, 8, 5, 3), seed=0):
    generator = np.random.default_rng(seed)
    return [represent([generator.normal(size=(k, c)) * generator.gamma(1, size=c) for c in CHANNELS]) for k in images]


def importance(count, seed=1):
    return np.random.default_rng(seed).dirichlet(np.ones(len(CHANNELS)), size=count)


@pytest.mark.parametrize("kind", KINDS)
def test_not_negative_zero_diagonal_directional_and_shared_between_images(kind):
    found = directional_conductance_divergence(tasks(), importance(4), kind=kind, rank=2)
    assert found.dcd.shape == (4, 4)
    assert (found.dcd >= 0).all()
    assert (found.dcd[~np.eye(4, dtype=bool)] > 1e-4).all()
    np.testing.assert_allclose(np.diag(found.dcd), 0.0, rtol=0, atol=0)
    np.testing.assert_allclose(np.nanmean(found.per_image, axis=2), found.dcd, rtol=0, atol=1e-12)
    np.testing.assert_array_equal(np.isfinite(found.per_image[0]).sum(axis=1), [5, 8, 5, 3])
    assert np.abs(found.dcd - found.dcd.T).max() > 1e-2


@pytest.mark.parametrize("kind", KINDS)
def test_all_pairs_at_once_is_each_pair_alone(kind):
    some, weights = tasks(), importance(4)
    centre = [np.concatenate([task.blocks[b] for task in some]).mean(axis=0) for b in range(3)]
    found = directional_conductance_divergence(some, weights, kind=kind, rank=3, standardise=False)
    for s in range(4):
        for t in range(4):
            options = {"kind": kind, "rank": 3, "centre": centre, "standardise": False}
            alone = pair_divergence(source=some[s], target=some[t], importance=weights[t], **options)
            np.testing.assert_allclose(alone, found.dcd[s, t], rtol=0, atol=1e-12)


def slow_subspace(source, target, centre, spread, rank):
    t_rows, s_rows = (target - centre) / spread, (source - centre) / spread
    t_rows, s_rows = (rows / np.linalg.norm(rows, axis=1, keepdims=True) for rows in (t_rows, s_rows))
    v_t, v_s = (np.linalg.svd(rows)[2][:rank].T for rows in (t_rows, s_rows))
    norm = np.linalg.norm
    return (norm(t_rows @ v_t) ** 2 - norm(t_rows @ v_s) ** 2) / norm(t_rows) ** 2


def slow_kl(source, target, *_, smoothing=1e-3):
    p_t, p_s = (np.abs(rows).sum(axis=0) / np.abs(rows).sum() for rows in (target, source))
    p_t, p_s = ((p + smoothing / len(p)) / (1 + smoothing) for p in (p_t, p_s))
    return (p_t * np.log(p_t / p_s)).sum()


def slow_coverage(source, target, *_):
    p_t, p_s = (np.abs(rows).sum(axis=0) / np.abs(rows).sum() for rows in (target, source))
    return np.maximum(0, p_t - p_s).sum()


@pytest.mark.parametrize(("kind", "slow"), [("subspace", slow_subspace), ("kl", slow_kl), ("coverage", slow_coverage)])
@pytest.mark.parametrize("standardise", [True, False])
def test_agrees_with_the_formula_written_out(kind, slow, standardise):
    some, weights = tasks(), importance(4)
    found = directional_conductance_divergence(some, weights, kind=kind, rank=2, standardise=standardise).dcd
    for s, source in enumerate(some):
        for t, target in enumerate(some):
            expected = 0.0
            for b in range(3):
                images = np.concatenate([task.blocks[b] for task in some])
                spread = images.std(axis=0) if standardise else 1.0
                expected += weights[t, b] * slow(source.blocks[b], target.blocks[b], images.mean(axis=0), spread, 2)
            np.testing.assert_allclose(found[s, t], expected if s != t else 0.0, rtol=0, atol=1e-12)


def test_worked_by_hand():
    # the target lies along the first axis; the wide source covers it and more, the other one lies across it
    target = represent([np.array([[1.0, 0.0, 0.0], [-1.0, 0.0, 0.0]])])
    wide = represent([np.array([[2.0, 0.0, 0.0], [0.0, 3.0, 0.0]])])
    across = represent([np.array([[0.0, 0.0, 1.0], [0.0, 0.0, 5.0]])])
    options = {"importance": np.array([1.0]), "centre": [np.zeros(3)], "rank": 2, "standardise": False}
    assert pair_divergence(source=wide, target=target, **options) == pytest.approx(0.0, abs=1e-12)
    assert pair_divergence(source=target, target=wide, **options) == pytest.approx(0.5, abs=1e-12)
    assert pair_divergence(source=across, target=target, **options) == pytest.approx(1.0, abs=1e-12)
    # P_t = (1, 0, 0), P_s = (.4, .6, 0): .6 of the target's mass is not covered, and the same mass the other way
    options = {"importance": np.array([1.0]), "kind": "coverage"}
    assert pair_divergence(source=wide, target=target, **options) == pytest.approx(0.6, abs=1e-12)
    kl = pair_divergence(source=wide, target=target, importance=np.array([1.0]), kind="kl", smoothing=1e-9)
    assert kl == pytest.approx(np.log(1 / 0.4), abs=1e-6)


def test_importance_is_the_targets():
    some = tasks()
    weights = np.eye(3)[[0, 0, 2, 0]]
    only_last = directional_conductance_divergence(some, np.eye(3)[[2, 2, 2, 2]]).dcd
    only_first = directional_conductance_divergence(some, np.eye(3)[[0, 0, 0, 0]]).dcd
    mixed = directional_conductance_divergence(some, weights).dcd
    np.testing.assert_allclose(mixed[:, 2], only_last[:, 2], rtol=0, atol=1e-12)
    np.testing.assert_allclose(mixed[:, [0, 1, 3]], only_first[:, [0, 1, 3]], rtol=0, atol=1e-12)


@pytest.mark.parametrize("kind", KINDS)
def test_missing_datasets_are_nan_and_change_nothing_else(kind):
    some, weights = tasks(), importance(4)
    whole = directional_conductance_divergence([some[0], some[2], some[3]], weights[[0, 2, 3]], kind=kind).dcd
    weights[1] = np.nan
    found = directional_conductance_divergence([some[0], None, some[2], some[3]], weights, kind=kind)
    assert np.isnan(found.dcd[1]).all()
    assert np.isnan(found.dcd[:, 1]).all()
    np.testing.assert_allclose(found.dcd[np.ix_([0, 2, 3], [0, 2, 3])], whole, rtol=0, atol=1e-12)
    nothing = directional_conductance_divergence([None, None], np.full((2, 3), np.nan))
    assert np.isnan(nothing.dcd).all()


@pytest.mark.parametrize("kind", KINDS)
def test_degenerate_conductance_stays_finite(kind):
    dead = represent([np.zeros((4, c)) for c in CHANNELS])
    half = represent([np.vstack([np.zeros((2, c)), np.eye(2, c)]) for c in CHANNELS])
    found = directional_conductance_divergence([*tasks(), dead, half], importance(6), kind=kind, rank=40)
    assert np.isfinite(found.dcd).all()
    assert (found.dcd >= 0).all()
    np.testing.assert_allclose(np.nanmean(found.per_image, axis=2), found.dcd, rtol=0, atol=1e-12)


def test_scale_of_the_conductance_does_not_matter():
    some, weights = tasks(), importance(4)
    scaled = [represent([block * 7.0 for block in task.blocks]) for task in some]
    for kind in KINDS:
        a, b = (directional_conductance_divergence(x, weights, kind=kind).dcd for x in (some, scaled))
        np.testing.assert_allclose(a, b, rtol=0, atol=1e-12)


@pytest.mark.parametrize("options", [{"kind": "cosine"}, {"rank": 0}, {"smoothing": 0.0}])
def test_refuses_options(options):
    with pytest.raises(ValueError):
        directional_conductance_divergence(tasks(), importance(4), **options)


def test_standardised_channels_count_alike():
    some, weights = tasks(), importance(4)
    units = [np.linspace(0.1, 9, c) for c in CHANNELS]
    scaled = [represent([block * unit for block, unit in zip(task.blocks, units, strict=True)]) for task in some]
    a, b = (directional_conductance_divergence(x, weights, rank=2).dcd for x in (some, scaled))
    np.testing.assert_allclose(a, b, rtol=0, atol=1e-12)
    c, d = (directional_conductance_divergence(x, weights, rank=2, standardise=False).dcd for x in (some, scaled))
    assert np.abs(c - d).max() > 1e-2


def test_refuses_shapes():
    with pytest.raises(ValueError, match="row for each"):
        directional_conductance_divergence(tasks(), importance(3))
    with pytest.raises(ValueError, match="not of one model"):
        directional_conductance_divergence([tasks()[0], represent([np.ones((2, 3))] * 3)], importance(2))
