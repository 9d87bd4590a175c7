"""Models: the registry, weights and downloads, loading, residual blocks."""
