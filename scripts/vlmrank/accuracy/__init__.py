"""Zero-shot accuracy, measured here or read from published tables."""
