"""Peers in which the models judge each other by their predicted classes: Dawid-Skene and LaF.

M models, K images, C classes. Models are workers, images are items, predicted classes are labels.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
from scipy.optimize import minimize
from scipy.special import expit, log_expit, logsumexp, softmax

from vlmrank.baselines.base import TARGET_IMAGES, Method, Unavailable, View

LEAST = 1e-10  # least probability of an error, as in crowd-kit


@dataclass(frozen=True)
class Truths:
    """Posterior of the true classes.

    Attributes
    ----------
    posterior : [K, C], rows sum to 1.
    accuracy : [M], expected accuracy of each model under the posterior.
    """

    posterior: np.ndarray
    accuracy: np.ndarray


def _expected_accuracy(posterior: np.ndarray, labels: np.ndarray) -> np.ndarray:
    return posterior[np.arange(labels.shape[1]), labels].mean(axis=1)


def _votes(labels: np.ndarray, classes: int) -> np.ndarray:
    """[K, C], number of models that predict each class."""
    votes = np.zeros((labels.shape[1], classes))
    np.add.at(votes, (np.broadcast_to(np.arange(labels.shape[1]), labels.shape), labels), 1.0)
    return votes


def dawid_skene(labels: np.ndarray, classes: int, *, iterations: int = 100, tolerance: float = 1e-5) -> Truths:
    """Dawid and Skene's model, by expectation maximisation from the majority vote.

    Model m gives class l to an image of true class c with probability e_m(l | c); true classes have prior q(c):

        posterior(k, c) ~ q(c) prod_m e_m(l_mk | c),    e_m(l | c) ~ sum_k posterior(k, c) [l_mk = l],
        q(c) = mean_k posterior(k, c).

    Parameters
    ----------
    labels : int [M, K], predicted classes.
    classes : C; classes that no model predicts have no posterior mass.
    iterations, tolerance : the iteration ends when the evidence lower bound gains less than `tolerance` per label.

    References
    ----------
    Dawid and Skene: Maximum Likelihood Estimation of Observer Error-Rates Using the EM Algorithm, JRSS C 1979. The
    start, the clipping and the end are those of crowd-kit (Ustalov et al., JOSS 2024).
    """
    labels = np.asarray(labels)
    used, index = np.unique(labels, return_inverse=True)
    index = index.reshape(labels.shape)
    posterior = _votes(index, len(used)) / len(labels)
    bound = -np.inf
    for _ in range(iterations):
        joint = _joint(index, posterior)
        posterior = softmax(joint, axis=1)
        reached = logsumexp(joint, axis=1).sum() / labels.size
        if reached - bound < tolerance:
            break
        bound = reached
    full = np.zeros((labels.shape[1], classes))
    full[:, used] = posterior
    return Truths(full, _expected_accuracy(full, labels))


def _joint(index: np.ndarray, posterior: np.ndarray) -> np.ndarray:
    """[K, C] log of prior times likelihood of the labels, with the parameters that fit the posterior best."""
    joint = np.tile(np.log(np.maximum(posterior.mean(axis=0), LEAST)), (len(posterior), 1))
    for given in index:
        errors = np.maximum(np.eye(posterior.shape[1])[given].T @ posterior, LEAST)
        joint += np.log(errors / errors.sum(axis=0))[given]
    return joint


def labelling_free_comparison(labels: np.ndarray, classes: int, *, tolerance: float = 1e-5) -> np.ndarray:
    """LaF: ability of each model; an image is easier the more models agree on it.

    Model m is right on image k with probability s(a_m exp(b_k)), s the logistic function, and errs evenly over the
    other C - 1 classes; a_m and b_k have normal priors of unit variance around the model's agreement with the majority
    vote and the share of models in that majority. Expectation maximisation; the maximisation is by conjugate gradients.
    Images on which all models agree are left out, since they carry no information about the order.

    Parameters
    ----------
    labels : int [M, K], predicted classes.
    classes : C, at least 2.
    tolerance : relative gain of the expected log joint at which the iteration ends.

    Returns
    -------
    [M], a_m; all equal if the models agree on every image.

    References
    ----------
    Hu et al.: LaF, ACM TOSEM 2023, after Whitehill et al. (GLAD), NeurIPS 2009; settings as in its authors' code.
    """
    labels = np.asarray(labels)
    labels = labels[:, (labels != labels[:1]).any(axis=0)]
    models, images = labels.shape
    if not images:
        return np.zeros(models)
    agrees = labels == _votes(labels, classes).argmax(axis=1)
    priors = np.concatenate([agrees.mean(axis=1), agrees.mean(axis=0)])
    constant = -images * np.log(classes) - 0.5 * len(priors) * np.log(2 * np.pi)
    values, last = priors, None
    for _ in range(100):
        right = _chance_of_right(labels, classes, values)
        last = constant - _laf_loss(values, right, priors, classes)[0] if last is None else last
        found = minimize(
            _laf_loss, values, (right, priors, classes), method="CG", jac=True, tol=0.01, options={"maxiter": 25}
        )
        values, reached = found.x, constant - found.fun
        if abs((reached - last) / last) <= tolerance:
            break
        last = reached
    return values[:models]


def _chance_of_right(labels: np.ndarray, classes: int, values: np.ndarray) -> np.ndarray:
    """[M, K], posterior probability that the image's true class is the one that the model predicts."""
    models = len(labels)
    ability, easiness = values[:models, None], np.exp(values[models:])[None, :]
    gain = log_expit(ability * easiness) - log_expit(-ability * easiness) + np.log(classes - 1)
    evidence = np.zeros((labels.shape[1], classes))
    np.add.at(evidence, (np.broadcast_to(np.arange(labels.shape[1]), labels.shape), labels), gain)
    return softmax(evidence, axis=1)[np.arange(labels.shape[1]), labels]


def _laf_loss(values: np.ndarray, right: np.ndarray, priors: np.ndarray, classes: int) -> tuple[float, np.ndarray]:
    """Minus the expected log joint, and its gradient."""
    models = len(right)
    ability, easiness = values[:models, None], np.exp(values[models:])[None, :]
    product = ability * easiness
    fit = right * log_expit(product) + (1 - right) * (log_expit(-product) - np.log(classes - 1))
    distance = values - priors
    slope = right - expit(product)
    gradient = np.concatenate([(slope * easiness).sum(axis=1), (slope * product).sum(axis=0)]) - distance
    return float(0.5 * (distance @ distance) - fit.sum()), -gradient


def _committee(judge: Callable[[np.ndarray, int], np.ndarray], logits: Sequence[np.ndarray | None]) -> np.ndarray:
    """[M], what `judge` makes of the predicted classes of the models that have predictions; nan for the others."""
    present = [index for index, values in enumerate(logits) if values is not None]
    classes = logits[present[0]].shape[1] if present else 0
    if len(present) < 3 or classes < 2:
        raise Unavailable("fewer than three models with predictions, or fewer than two classes")
    scores = np.full(len(logits), np.nan)
    scores[present] = judge(np.stack([logits[index].argmax(axis=1) for index in present]), classes)
    return scores


def _dawid_skene_accuracy(labels: np.ndarray, classes: int) -> np.ndarray:
    return dawid_skene(labels, classes).accuracy


def by_dawid_skene(view: View) -> np.ndarray:
    """[M] expected accuracy under the posterior of Dawid and Skene's model."""
    return view.of_logits("dawid_skene", partial(_committee, _dawid_skene_accuracy))


def by_laf(view: View) -> np.ndarray:
    """[M] LaF's ability."""
    return view.of_logits("laf", partial(_committee, labelling_free_comparison))


METHODS = (
    Method("dawid_skene", "Dawid-Skene", frozenset({TARGET_IMAGES}), by_dawid_skene),
    Method("laf", "LaF", frozenset({TARGET_IMAGES}), by_laf),
)
