"""Figures of others that the package ships; README.md says whose they are."""
