"""From photographs to a model: published accuracies, then a shortlist's predictions, then the whole method."""
