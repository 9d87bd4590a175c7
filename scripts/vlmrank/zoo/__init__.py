"""Load an OpenCLIP model and find its residual blocks."""

from vlmrank.models.blocks import visual_blocks
from vlmrank.models.load import LoadedModel, fetch_model, load_model

__all__ = ["LoadedModel", "fetch_model", "load_model", "visual_blocks"]
