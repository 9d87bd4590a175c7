"""What the bench's choosing tasks say before a run's own known tasks do.

Printed by `python benchmarks/calibration.py --prior`, from the choosing tasks alone.
"""

from __future__ import annotations

from collections.abc import Mapping

from vlmrank.answer.calibration import Noise

# The method that ranks unless the run's known tasks say otherwise.
DEFAULT = "agreement"
# Mean gain in NDCG@5 of each method over the default.
GAINS: Mapping[str, float] = {}
# Correlation of the default's score with the true ranks over tasks.
NOISE = Noise(mean=0.75, spread=0.45, tasks=5.0)
