"""Update the candidates with a few labels, and choose which images to label.

A label is compared with what the committee of these models expected for the image. Let q_k be the committee's guess of
the class of image k, f_mk = q_k(prediction of m), and z_mk 1 if model m is right on image k, else 0. Under q_k the z_k
have mean f_k and covariance V_k, where V_k[i, j] = f_ik [same prediction] - f_ik f_jk. Tilt the guess by beliefs about
the models: q_k(c) exp(sum of theta_m over the models that predict c). Then, to first order, the accuracies a and z_k
move together (without the tilt, the expected a is the mean of f over the images):

    a = mean_k f_k + mean_k V_k theta,    z_k = f_k + V_k theta + noise of covariance V_k,

so that z_k = f_k + H_k (a - mean f) + noise with H_k = V_k (mean_k V_k)^-1. The prior of a is given by the calibrated
draws of accuracies. Labels update the draws as in a Kalman filter, and everything computed from draws (ranks, chances,
expected accuracy and loss) follows. Images on which all models agree have V_k = 0 on every difference: they do not tell
which model is better. And an image that was chosen because the models disagree on it is not taken for a typical one.
Since the guess is not the truth and some labels are wrong, the noise is multiplied by `DISCOUNT`. D draws, M models, S
of them on the shortlist, K images, C classes.

References: Evensen, The ensemble Kalman filter, Ocean Dynamics 2003; Kay et al., Consensus-driven active model
selection, arXiv 2507.23771, for the committee and the purpose.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from scipy.special import softmax

SHORTLIST = 10  # models that are compared
IMAGES = 24  # number of images to label per round
RIDGE = 0.02  # added to mean_k V_k, relative to its mean diagonal
NOISE = 1e-4  # added to V_k, which is singular
DISCOUNT = 2.5  # factor of the noise of a label, chosen on the benchmark's choosing tasks
FLOOR = 1e-4  # smallest chance of a class in a guess


@dataclass(frozen=True)
class Committee:
    """Predictions of the models on the shortlist, and their joint guess.

    Attributes
    ----------
    predicted : int [S, K], classes.
    guess : float64 [K, C], rows sum to 1.
    right : float64 [S, K], f: the chance that each model is right, under the guess.
    spread : float64 [S, S], mean_k V_k.
    """

    predicted: np.ndarray
    guess: np.ndarray
    right: np.ndarray
    spread: np.ndarray

    def covariance(self, image: int) -> np.ndarray:
        """V_k [S, S]: covariance of the models being right on an image, under the guess."""
        same = self.predicted[:, image, None] == self.predicted[None, :, image]
        right = self.right[:, image]
        return same * right[:, None] - np.outer(right, right)


def shortlist(drawn: np.ndarray, most: int = SHORTLIST) -> np.ndarray:
    """Indices of the models that are most often the best in the draws [D, M], at most `most`, most likely first."""
    return np.argsort(-chance_of_best(drawn), kind="stable")[:most]


def chance_of_best(drawn: np.ndarray) -> np.ndarray:
    """[M] share of the draws [D, M] in which each model is the best; nan never is."""
    best = np.argmax(np.where(np.isfinite(drawn), drawn, -np.inf), axis=1)
    return np.bincount(best, minlength=drawn.shape[1]) / len(drawn)


def committee(logits: Iterable[np.ndarray], weight: Sequence[float], level: float) -> Committee:
    """The committee's guess, tempered until the models are right as often as expected.

    Parameters
    ----------
    logits : S arrays [K, C] of the same images.
    weight : [S], of the models in the guess.
    level : the mean of the expected accuracies of the S models.
    """
    predicted, guess = [], 0.0
    for values, share in zip(logits, np.asarray(weight, np.float64) / np.sum(weight), strict=True):
        predicted.append(np.argmax(values, axis=1))
        guess = guess + share * softmax(np.asarray(values, np.float64), axis=1)
    votes = np.stack(predicted)
    images = np.arange(votes.shape[1])
    guess = _tempered(np.maximum(guess, FLOOR), votes, level)
    right = guess[images, votes]
    spread = np.mean((votes[:, None] == votes[None]) * right[:, None] - right[:, None] * right[None], axis=2)
    return Committee(votes, guess, right, spread)


def _tempered(guess: np.ndarray, votes: np.ndarray, level: float) -> np.ndarray:
    """guess^b, normalised, with b in [1/20, 20] such that the votes' mean chance is `level`, by bisection on log b."""
    low, high, images = 0.05, 20.0, np.arange(len(guess))
    logs = np.log(guess)
    for _ in range(25):
        middle = np.sqrt(low * high)
        found = softmax(middle * logs, axis=1)
        low, high = (middle, high) if found[images, votes].mean() < level else (low, middle)
    return softmax(np.sqrt(low * high) * logs, axis=1)


def tighten(drawn: np.ndarray, loss_factor: float) -> np.ndarray:
    """Scale the differences between drawn accuracies [D, M] to match the calibrated loss; nan stays.

    On known tasks the first pick loses `loss_factor` times what drawn accuracies say, since models that are confused
    with each other are nearly equally good. So each draw's deviations from the models' means, except the part common to
    all models, are multiplied by one number, such that the expected loss of the first pick is `loss_factor` times its
    old value.
    """
    there = np.flatnonzero(np.isfinite(drawn).all(axis=0))
    draws = np.asarray(drawn[:, there], np.float64)
    mean = draws.mean(axis=0)
    shared = (draws - mean).mean(axis=1, keepdims=True)
    own, first = draws - mean - shared, int(np.argmax(mean))

    def loss(scale: float) -> float:
        return float((mean + scale * own).max(axis=1).mean() - mean[first])

    wanted, low, high = loss_factor * loss(1.0), 0.0, 2.0
    for _ in range(30):
        middle = (low + high) / 2
        low, high = (middle, high) if loss(middle) < wanted else (low, middle)
    found = np.full(drawn.shape, np.nan)
    found[:, there] = mean + shared + (low + high) / 2 * own
    return found


def _inverse_spread(known: Committee) -> np.ndarray:
    models = len(known.spread)
    scale = max(float(np.trace(known.spread)) / models, NOISE)
    return np.linalg.inv(known.spread + RIDGE * scale * np.eye(models))


def update_draws(
    drawn: np.ndarray, models: Sequence[int], known: Committee, labels: Mapping[int, int], *, seed: int = 0
) -> np.ndarray:
    """The drawn accuracies [D, M] after the labels; nan stays.

    Each draw moves by the Kalman gain times the difference between the label and that draw's own forecast of it. Then
    all draws are shifted so that their mean is the filter's.

    Parameters
    ----------
    drawn : prior, from `expectation.draw_accuracies`.
    models : [S] indices of the committee's models.
    known : the committee.
    labels : image -> class.
    seed : of the forecasts.
    """
    there = np.flatnonzero(np.isfinite(drawn).all(axis=0))
    draws = np.asarray(drawn[:, there], np.float64).copy()
    place = np.searchsorted(there, models)
    mean, covariance = draws.mean(axis=0), np.atleast_2d(np.cov(draws, rowvar=False))
    inverse, expected = _inverse_spread(known), known.right.mean(axis=1)
    generator = np.random.default_rng(seed)
    for image, label in labels.items():
        spread = known.covariance(image)
        seen, noise = spread @ inverse, DISCOUNT * spread + NOISE * np.eye(len(spread))  # H_k, noise
        cross = covariance[:, place] @ seen.T
        gain = np.linalg.solve(seen @ cross[place] + noise, cross.T).T
        right, votes = known.right[:, image], known.predicted[:, image]
        told = (votes == label) - right
        forecast = generator.choice(known.guess.shape[1], size=len(draws), p=known.guess[image])
        errors = np.sqrt(DISCOUNT) * ((votes == forecast[:, None]) - right)
        draws += (told - (draws[:, place] - expected) @ seen.T - errors) @ gain.T
        mean = mean + gain @ (told - seen @ (mean[place] - expected))
        covariance = covariance - gain @ cross.T
    draws += mean - draws.mean(axis=0)
    found = np.full(drawn.shape, np.nan)
    found[:, there] = np.clip(draws, 0.0, 1.0)
    return found


def choose_images(
    drawn: np.ndarray, models: Sequence[int], known: Committee, *, count: int = IMAGES, taken: Iterable[int] = ()
) -> list[int]:
    """Images to label next, most informative first; fewer than `count` if no others are informative.

    The choice is greedy: the next image is the one whose label is expected to reduce the uncertainty of differences
    most,

        sum_ij p_i p_j Var(a_i - a_j),    p the chance of each model to be the best,

    given the images chosen before it. This needs no labels, so all images can be requested at once.
    """
    models = np.asarray(models)
    p = chance_of_best(drawn[:, models])
    covariance = np.atleast_2d(np.cov(drawn[:, models], rowvar=False))
    spread = np.stack([known.covariance(image) for image in range(known.right.shape[1])])
    seen, noise = spread @ _inverse_spread(known), DISCOUNT * spread + NOISE * np.eye(len(models))
    open_ = (known.predicted != known.predicted[0]).any(axis=0)
    open_[list(taken)] = False
    chosen: list[int] = []
    while len(chosen) < count and open_.any():
        moved = seen @ covariance
        inner = moved @ seen.transpose(0, 2, 1) + noise
        fall = moved.transpose(0, 2, 1) @ np.linalg.solve(inner, moved)
        gain = np.einsum("m,kmm->k", p, fall) - np.einsum("i,kij,j->k", p, fall, p)
        best = int(np.argmax(np.where(open_, gain, -np.inf)))
        chosen.append(best)
        open_[best] = False
        covariance = covariance - fall[best]
    return chosen
