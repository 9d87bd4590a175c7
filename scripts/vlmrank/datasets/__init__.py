"""Datasets: where their images are, how one is decoded, which are drawn."""
