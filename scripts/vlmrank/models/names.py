"""How a row of the models sheet names what is not in OpenCLIP's registry."""

LOCAL, HUB = "local-dir:", "hf-hub:"
