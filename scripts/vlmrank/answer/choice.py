"""Choose the ranking method: the benchmark's winner, unless the run's own known tasks favour another one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

PRIOR_TASKS = 8.0  # weight of a method's gain on the benchmark, in known tasks


@dataclass(frozen=True)
class Choice:
    """A method and the evidence for it.

    Attributes
    ----------
    method : the name.
    expected : method -> expected gain over the default on a new task, best first.
    tasks : number of known tasks behind it.
    """

    method: str
    expected: Mapping[str, float]
    tasks: int


def choose_method(
    quality: Mapping[str, np.ndarray],
    prior: Mapping[str, float],
    *,
    default: str,
    prior_tasks: float = PRIOR_TASKS,
    without: int | None = None,
) -> Choice:
    """Take the method with the largest expected gain over the default.

    With q_m(t) the quality of method m on known task t and g_m the benchmark's mean of q_m - q_default,

        gain(m) = (n0 g_m + sum_t (q_m(t) - q_default(t))) / (n0 + T),

    the posterior mean under a prior that counts as n0 tasks. A method unknown to the benchmark gets the smallest known
    g_m; one that could not be scored on some task is not considered.

    Parameters
    ----------
    quality : method -> [T], higher is better, such as NDCG@5; nan = not scored.
    prior : method -> mean gain over `default` on the benchmark's choosing tasks.
    default : the benchmark's winner, taken if no other method is better. If it could not be scored, the best scored
        method is taken.
    prior_tasks : n0.
    without : index of a task to leave out, for nested evaluation.

    Examples
    --------
    >>> found = choose_method({"a": np.array([0.5] * 30), "b": np.array([0.9] * 30)}, {"b": -0.1}, default="a")
    >>> found.method
    'b'
    """
    kept = {}
    for name, values in quality.items():
        values = np.asarray(values, np.float64)
        kept[name] = values if without is None else np.delete(values, without)
    usable = [name for name, values in kept.items() if np.isfinite(values).all()]
    if not usable:
        return Choice(default, {default: 0.0}, 0)
    base = kept[default] if default in usable else np.mean([kept[name] for name in usable], axis=0)
    worst = min(prior.values(), default=0.0)
    gains = {}
    for name in usable:
        known = 0.0 if name == default else prior.get(name, worst)
        gains[name] = float((prior_tasks * known + (kept[name] - base).sum()) / (prior_tasks + len(base)))
    ordered = sorted(gains, key=lambda name: (-gains[name], name != default, name))
    return Choice(ordered[0], {name: gains[name] for name in ordered}, len(base))


def nested_choices(
    quality: Mapping[str, np.ndarray], prior: Mapping[str, float], *, default: str, prior_tasks: float = PRIOR_TASKS
) -> Sequence[Choice]:
    """For each known task, the choice made from the other known tasks."""
    tasks = len(next(iter(quality.values()), ()))
    return [
        choose_method(quality, prior, default=default, prior_tasks=prior_tasks, without=task) for task in range(tasks)
    ]
