"""Prior knowledge of the methods from the benchmark's choosing tasks, for runs with few known tasks.

Printed by `python benchmarks/idea_methods.py`, from the choosing tasks alone. From a run of the workflow,
`python benchmarks/calibration.py --prior` prints it.
"""

from __future__ import annotations

from collections.abc import Mapping

from vlmrank.answer.calibration import Noise

# The method that ranks unless the run's known tasks say otherwise.
DEFAULT = "agreement"
# Mean gain in NDCG@5 of each method over the default.
GAINS: Mapping[str, float] = {
    "agreement": 0.000,
    "agreement_by_vlmrank": -0.021,
    "agreement_unbalanced": -0.060,
    "fused": -0.065,
    "average_rank+agreement": -0.072,
    "nuclear_norm": -0.095,
    "fused_information": -0.099,
    "doc": -0.105,
    "mutual_information": -0.119,
    "average_rank+mutual_information": -0.124,
    "confidence": -0.132,
    "entropy": -0.146,
    "average_rank+atc": -0.149,
    "average_rank+nuclear_norm": -0.154,
    "average_rank+atc_entropy": -0.161,
    "average_rank+confidence": -0.179,
    "average_rank+doc": -0.194,
    "atc": -0.194,
    "atc_entropy": -0.194,
    "average_rank+entropy": -0.197,
    "average_rank+dawid_skene": -0.222,
    "average_rank+vega": -0.232,
    "vlmrank": -0.237,
    "average_rank+aline_probit": -0.243,
    "average_rank+aline": -0.250,
    "dawid_skene": -0.261,
    "aline_probit": -0.264,
    "average_rank+dispersion": -0.264,
    "aline": -0.270,
    "vega": -0.272,
    "dispersion": -0.300,
    "half_level": -0.300,
    "swab": -0.306,
    "swab_transport": -0.306,
    "average_rank+mano": -0.331,
    "model_level": -0.333,
    "average_rank+laf": -0.342,
    "average_rank+meta_distribution_energy": -0.343,
    "average_rank+dispersity": -0.356,
    "average_rank": -0.358,
    "by_embedding": -0.366,
    "laf": -0.380,
    "reference_accuracy": -0.399,
    "mano": -0.408,
    "meta_distribution_energy": -0.426,
    "average_rank+energy": -0.489,
    "dispersity": -0.547,
    "energy": -0.583,
}
# Correlation of the default's score with the true ranks over tasks.
NOISE = Noise(mean=1.23, spread=0.55, tasks=5.0)
