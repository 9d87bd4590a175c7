"""`vlmrank rank`: from images to a model by published accuracies, predictions, and then the full method."""
