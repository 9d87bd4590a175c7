"""Labels for the names in the result files."""

from __future__ import annotations

import functools

from vlmrank.baselines import Method, all_methods

METRICS = {
    "ndcg_at_5": "NDCG@5: are the best models on top?",
    "ndcg_at_10": "NDCG@10: the same for the first ten",
    "hit_at_5": "Best model among the first five",
    "top5_recall": "Share of the true top five found",
    "kendall_tau": "Kendall's tau over all models",
    "common_top5_tau": "Kendall's tau within the common top five",
    "weighted_tau": "Weighted tau: the top counts more",
    "regret_at_1": "Accuracy lost by taking the first",
    "regret_at_5": "Accuracy lost by taking the best of the first five",
}
GLOSSARY = {
    "accuracy": "Share of images whose class a model names rightly, from the class names alone (zero-shot).",
    "agreement": "How often a model's predictions are those that the other models make as well.",
    "block profile": "How much each block of the image tower contributes to the score of the task.",
    "conductance": "How much each channel of a block moves the model's score between a black image and the image.",
    "divergence": "What a known task leaves unused of what this task uses inside a model; 0 is nothing, larger is "
    "less alike. It has a direction.",
    "expected loss": "How many points of accuracy the model is expected to be below the best of all, on average.",
    "GFLOPs": "Thousand million additions and multiplications for one image.",
    "known task": "A data set on which the models' accuracies are known.",
    "likely rank": "The true rank lies in this range in nine cases of ten, as tried on the known tasks.",
    "NDCG@5": "1 if the five best models stand on top in their order; what stands higher counts more.",
    "oracle": "A choice that knows the answer: what nobody can beat.",
    "pair": "One model on one data set.",
    "Pareto line": "The models that no other beats in accuracy at the same or a lower cost.",
}
GROUPS = {
    "ours": "this method",
    "counterpart": "this method, one part exchanged",
    "peer": "other methods",
    "labelled": "other methods that see labels",
    "control": "controls",
}


@functools.cache
def _methods() -> dict[str, Method]:
    return {method.name: method for method in all_methods()}


def metric_label(name: str) -> str:
    """The label of a metric; its name if it has none."""
    return METRICS.get(name, name.replace("_", " "))


def method_label(name: str) -> str:
    """The label of a method of the evaluation; its name if it has none."""
    return _methods()[name].title if name in _methods() else name.replace("_", " ")


def method_group(name: str) -> str:
    """The kind of a method, in words."""
    return GROUPS[_methods()[name].group if name in _methods() else "peer"]
