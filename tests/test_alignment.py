import numpy as np
import ot
import pytest
from scipy.optimize import minimize
from scipy.special import softmax

from vlmrank import alignment
from vlmrank.alignment import AlignmentError, align_blocks, alignment_cost, block_prior


def problem(images=7, blocks=5, seed=0):
    generator = np.random.default_rng(seed)
    return generator.gamma(2.0, size=(images, blocks)), generator.dirichlet(np.full(blocks, 5.0))


def slow_importance(mass, prior, epsilon, rho):
    """Minimise the objective itself over plans with the right row sums (softmax of free parameters)."""
    cost = alignment_cost(mass, prior)
    images, blocks = cost.shape

    def plan(free):
        return softmax(free.reshape(images, blocks), axis=1) / images

    def objective(free):
        g = plan(free)
        column = g.sum(axis=0)
        entropic = (g * np.log(g / (prior / images))).sum()
        return (g * cost).sum() + epsilon * entropic + rho * (column * np.log(column / prior)).sum()

    found = minimize(objective, np.zeros(cost.size), method="BFGS", options={"gtol": 1e-9, "maxiter": 5000})
    return plan(found.x).sum(axis=0)


@pytest.mark.parametrize(("epsilon", "rho"), [(1.0, 1.0), (0.3, 0.2), (0.5, 5.0)])
def test_minimises_the_objective(epsilon, rho):
    mass, prior = problem(images=4, blocks=3)
    found = align_blocks(mass, prior, epsilon=epsilon, rho=rho)
    np.testing.assert_allclose(found.importance, slow_importance(mass, prior, epsilon, rho), rtol=0, atol=1e-5)
    np.testing.assert_allclose(found.plan.sum(axis=1), 1 / 4, rtol=0, atol=1e-14)
    np.testing.assert_allclose(found.mass, 1.0, rtol=0, atol=1e-8)
    assert found.iterations > 0
    assert found.marginal_error < 1e-8


def test_no_hold_on_the_prior_has_a_closed_form_and_is_the_limit_of_small_rho():
    mass, prior = problem()
    cost = alignment_cost(mass, prior)
    expected = softmax(np.log(prior) - cost / 0.5, axis=1).mean(axis=0)
    free = align_blocks(mass, prior, epsilon=0.5, rho=0.0)
    np.testing.assert_allclose(free.importance, expected, rtol=0, atol=1e-14)
    assert free.iterations == 0
    near = align_blocks(mass, prior, epsilon=0.5, rho=1e-5)
    np.testing.assert_allclose(near.importance, expected, rtol=0, atol=1e-4)


def test_full_hold_is_balanced_transport_and_the_limit_of_large_rho():
    mass, prior = problem()
    balanced = align_blocks(mass, prior, epsilon=0.5, rho=np.inf)
    np.testing.assert_allclose(balanced.importance, prior, rtol=0, atol=1e-8)
    plain = ot.sinkhorn(np.full(7, 1 / 7), prior, alignment_cost(mass, prior), 0.5, stopThr=1e-12)
    np.testing.assert_allclose(balanced.plan, plain, rtol=0, atol=1e-8)
    near = align_blocks(mass, prior, epsilon=0.5, rho=1e3)
    np.testing.assert_allclose(near.importance, prior, rtol=0, atol=1e-3)
    np.testing.assert_allclose(near.plan, plain, rtol=0, atol=1e-3)


def test_agrees_with_the_plain_unbalanced_scaling():
    mass, prior = problem(seed=3)
    plain = ot.unbalanced.sinkhorn_unbalanced(
        np.full(7, 1 / 7), prior, alignment_cost(mass, prior), 0.4, (np.inf, 0.7), stopThr=1e-13, numItermax=10_000
    )
    np.testing.assert_allclose(align_blocks(mass, prior, epsilon=0.4, rho=0.7).plan, plain, rtol=0, atol=1e-10)


def test_the_importance_goes_where_the_lift_is():
    prior = np.array([0.5, 0.3, 0.2])
    mass = np.array([[0.5, 0.3, 0.4], [0.5, 0.3, 0.6]])
    importance = align_blocks(mass, prior, epsilon=0.5, rho=0.5).importance
    assert importance[2] > prior[2]
    assert importance[0] < prior[0]
    np.testing.assert_allclose(align_blocks(prior[None], prior).importance, prior, rtol=0, atol=1e-9)


def test_a_block_without_conductance_and_an_image_without_any():
    mass = np.array([[1.0, 0.0, 1.0], [0.0, 0.0, 0.0]])
    found = align_blocks(mass, np.array([0.4, 0.2, 0.4]), epsilon=1.0, rho=1.0)
    assert np.isfinite(found.importance).all()
    np.testing.assert_allclose(found.importance.sum(), 1.0, rtol=0, atol=1e-12)


def test_small_epsilon_is_solved_on_logarithms():
    mass, prior = problem(seed=5)
    arguments = (np.full(7, 1 / 7), prior, alignment_cost(mass, prior), 0.02, 1.0, 1e-8, 100_000)
    broken = alignment._pot_semi_relaxed(*arguments)[0]
    assert np.abs(broken.sum(axis=1) - 1 / 7).max() > 1e-3  # should POT get this right one day, the fallback can go
    sharp = align_blocks(mass, prior, epsilon=0.02, rho=1.0)
    np.testing.assert_allclose(sharp.mass, 1.0, rtol=0, atol=1e-8)
    # optimality: each row is the softmax of log pi - (cost + rho log(w / pi)) / epsilon
    held = np.log(prior) - (alignment_cost(mass, prior) + np.log(sharp.importance / prior)) / 0.02
    np.testing.assert_allclose(sharp.plan, softmax(held, axis=1) / 7, rtol=0, atol=1e-6)


def test_both_solvers_agree():
    mass, prior = problem(seed=6)
    arguments = (np.full(7, 1 / 7), prior, alignment_cost(mass, prior), 0.3, 0.8, 1e-9, 10_000)
    theirs, ours = alignment._pot_semi_relaxed(*arguments), alignment._log_semi_relaxed(*arguments)
    np.testing.assert_allclose(theirs[0], ours[0], rtol=0, atol=1e-9)
    assert max(theirs[1], ours[1]) < 1e-9


@pytest.mark.parametrize("rho", [1.0, np.inf])
def test_a_plan_that_did_not_converge_is_never_returned(rho):
    mass, prior = problem(seed=5)
    with pytest.raises(AlignmentError, match="did not converge"):
        align_blocks(mass, prior, epsilon=0.02, rho=rho, max_iterations=3)


def test_prior_leans_to_late_blocks():
    profiles = np.array([[0.5, 0.5], [0.3, 0.7], [np.nan, np.nan]])
    np.testing.assert_allclose(block_prior(profiles), [0.4, 0.6], rtol=0, atol=1e-12)
    expected = np.array([0.4 * np.exp(1.5), 0.6 * np.exp(3.0)])
    np.testing.assert_allclose(block_prior(profiles, depth=3.0), expected / expected.sum(), rtol=0, atol=1e-12)
    with pytest.raises(ValueError, match="no source"):
        block_prior(profiles[2:])


@pytest.mark.parametrize(
    "options", [{"epsilon": 0.0}, {"epsilon": np.inf}, {"rho": -1.0}, {"rho": np.nan}, {"epsilon": np.nan}]
)
def test_refuses_values_out_of_range(options):
    with pytest.raises(ValueError):
        align_blocks(*problem(), **options)


def test_refuses_shapes_and_masses():
    mass, prior = problem()
    for bad in ((mass, prior[:-1]), (mass, np.zeros(5)), (-mass, prior), (mass * np.inf, prior), (mass[0], prior)):
        with pytest.raises(ValueError):
            align_blocks(*bad)


@pytest.mark.parametrize(("mass", "words"), [(np.zeros((3, 4)), "is zero"), (np.full((3, 4), 2.0), "same in every")])
def test_conductance_that_says_nothing_about_the_blocks_is_no_importance(mass, words):
    with pytest.raises(AlignmentError, match=words):
        align_blocks(mass, np.array([0.1, 0.2, 0.3, 0.4]))
    np.testing.assert_allclose(align_blocks(np.ones((3, 1)), np.ones(1)).importance, [1.0])
