"""Rankings and evaluations from published accuracies alone."""
