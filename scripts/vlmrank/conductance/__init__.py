"""Layer conductance of the residual blocks of a visual encoder."""

from vlmrank.conductance.layer import Conductance, layer_conductance

__all__ = ["Conductance", "layer_conductance"]
