"""`vlmrank rank`: from photographs to a model by published accuracies, a shortlist's predictions, then the whole
method.
"""
