"""Dawid-Skene against crowd-kit's figures, LaF against those of its authors' code."""

import numpy as np
import pytest
from scipy.optimize import check_grad

from vlmrank.baselines import committee

# crowd-kit 1.4.2, DawidSkene(n_iter=1000, tol=0).fit_predict_proba on `recipe(*arguments)`: mean over the images of the
# probability of each model's label; and testing-cs/LaF-model-selection @ 266b141, `em` on the images that divide the
# models: alpha.
FIGURES = {
    (0, 8, 60, 4): (
        [0.3666666667, 0.4833333334, 0.5666666667, 0.65, 0.6666666667, 0.8666666667, 0.8333333333, 0.9166666667],
        [-0.307367, 0.036528, 0.09758, 0.352522, 0.528286, 1.131047, 0.960075, 1.547384],
    ),
    (1, 12, 40, 2): (
        [0.5500022079, 0.5999973127, 0.7499960283, 0.75000247, 0.6749957848, 0.8500006335, 0.8249999773, 0.8999950516,
         0.8749948289, 0.8999955056, 0.9249960665, 0.974995382],
        [0.089259, 0.143931, 0.426116, 0.56858, 0.284252, 0.76494, 0.665278, 1.005424, 0.849315, 1.14061, 1.214267,
         1.715447],
    ),
    (2, 5, 90, 7): (
        [0.4222222223, 0.4888888889, 0.7555555556, 0.7777777778, 0.9444444444],
        [-0.446543, -0.091065, 0.658285, 0.749375, 2.085173],
    ),
}  # fmt: skip


def recipe(seed, models, images, classes):
    rng = np.random.default_rng(seed)
    truth, skill = rng.integers(0, classes, images), np.linspace(0.3, 0.9, models)[:, None]
    return np.where(rng.random((models, images)) < skill, truth, rng.integers(0, classes, (models, images)))


@pytest.mark.parametrize("arguments", FIGURES)
def test_figures_of_others(arguments):
    labels, classes = recipe(*arguments), arguments[-1]
    found = committee.dawid_skene(labels, classes, iterations=1000, tolerance=0.0)
    np.testing.assert_allclose(found.accuracy, FIGURES[arguments][0], rtol=0, atol=1e-6)
    # conjugate gradients end at a tolerance of .01, so the last digits depend on the way there
    ability = committee.labelling_free_comparison(labels, classes)
    np.testing.assert_allclose(ability, FIGURES[arguments][1], rtol=0, atol=2e-3)


def test_a_class_that_no_model_predicts_has_no_mass():
    labels = recipe(3, 6, 40, 3)
    few, many = committee.dawid_skene(labels, 3), committee.dawid_skene(labels, 9)
    np.testing.assert_allclose(many.posterior[:, :3], few.posterior, rtol=0, atol=1e-15)
    np.testing.assert_allclose(many.posterior.sum(axis=1), 1.0, rtol=0, atol=1e-12)
    assert not many.posterior[:, 3:].any()


def test_the_gradient_of_laf():
    labels, classes = recipe(4, 5, 20, 4), 4
    rng = np.random.default_rng(0)
    values = rng.normal(size=25)
    right = committee._chance_of_right(labels, classes, values)
    arguments = (right, rng.normal(size=25), classes)
    error = check_grad(
        lambda x: committee._laf_loss(x, *arguments)[0], lambda x: committee._laf_loss(x, *arguments)[1], values
    )
    assert error < 1e-4
    # the chance of being right, by Bayes' rule for one image
    ability, easiness = values[:5], np.exp(values[5])
    p = 1 / (1 + np.exp(-ability * easiness))
    likelihood = [np.prod(np.where(labels[:, 0] == c, p, (1 - p) / 3)) for c in range(4)]
    expected = (np.array(likelihood) / sum(likelihood))[labels[:, 0]]
    np.testing.assert_allclose(right[:, 0], expected, rtol=0, atol=1e-12)


def test_models_that_never_differ_are_level():
    labels = np.tile(np.array([0, 1, 2, 1]), (4, 1))
    np.testing.assert_array_equal(committee.labelling_free_comparison(labels, 3), np.zeros(4))
    np.testing.assert_allclose(committee.dawid_skene(labels, 3).accuracy, 1.0, rtol=0, atol=1e-6)
