"""How well each method ranks the models, on datasets whose truth is known."""
