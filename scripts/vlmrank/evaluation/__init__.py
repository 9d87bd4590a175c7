"""How well each method ranks the models, on datasets with known accuracies."""
