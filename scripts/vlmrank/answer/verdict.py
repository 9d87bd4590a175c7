"""The verdict: strong, fair, weak or none, from the expected loss and the chance of the top five."""

from __future__ import annotations

from dataclasses import dataclass

# (verdict, largest expected loss in accuracy, smallest chance of the pick to be in the top five), strictest first.
THRESHOLDS = (("strong", 0.01, 0.8), ("fair", 0.03, 0.5))


@dataclass(frozen=True)
class Verdict:
    """How far the pick can be relied on: `level` is strong, fair, weak or none; `reason` is one sentence."""

    level: str
    reason: str


def verdict(
    *,
    loss: float,
    p_top5: float,
    known_tasks: int,
    loss_known: float,
    loss_random: float,
    chance_top5: float,
    labels: int = 0,
) -> Verdict:
    """Judge the pick by the numbers on the first screen, so that the verdict cannot contradict them.

    Parameters
    ----------
    loss : expected loss of the pick against the unknown best, in accuracy (0..1).
    p_top5 : calibrated chance of the pick to be among the five best.
    known_tasks : number of tasks with known truth that the ranking was tried on.
    loss_known : mean loss of the first pick on them, each left out in turn; ignored if there are none.
    loss_random : mean loss of a random model on them.
    chance_top5 : the chance of a random model to be in the top five, min(1, 5 / M).
    labels : number of labelled images of the task; with any, losses on the known tasks no longer lead to the verdict
        none, since the numbers no longer rest on the score alone.

    Examples
    --------
    >>> verdict(loss=0.005, p_top5=0.9, known_tasks=9, loss_known=0.01, loss_random=0.1, chance_top5=0.5).level
    'strong'
    """
    if known_tasks and not labels and not loss_known < loss_random:
        reason = (
            f"On {known_tasks} known tasks the first pick lost {100 * loss_known:.1f} points, "
            f"a model taken at random {100 * loss_random:.1f}: the ranking is no better than chance here."
        )
        return Verdict("none", reason)
    if not loss >= 0:
        return Verdict("none", "No accuracy is known on any task: nothing can be said about the loss.")
    if not p_top5 > chance_top5 and chance_top5 < 1:
        reason = f"The pick is in the top five with probability {p_top5:.2f}, a random model with {chance_top5:.2f}."
        return Verdict("none", reason)
    said = f"Expected loss {100 * loss:.1f} points against the best, in the top five with probability {p_top5:.2f}."
    for level, largest, smallest in THRESHOLDS:
        if loss <= largest and p_top5 >= smallest:
            return Verdict(level, said)
    return Verdict("weak", said)
