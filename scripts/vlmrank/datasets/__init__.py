"""Datasets: where the images lie, how one is decoded, which are drawn."""
