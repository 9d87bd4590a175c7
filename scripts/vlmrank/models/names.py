"""Names of models in the models sheet: the prefixes `hf-hub:` and `local-dir:`, and the Python that loads a model."""

import json

LOCAL, HUB = "local-dir:", "hf-hub:"


def loading_lines(architecture: str, pretrained: str = "") -> str:
    """Python that loads a model of the models sheet with OpenCLIP, to copy.

    Parameters
    ----------
    architecture, pretrained : cells of its row.

    Examples
    --------
    >>> print(loading_lines("ViT-B-32", "openai"))
    import open_clip
    model, _, preprocess = open_clip.create_model_and_transforms("ViT-B-32", pretrained="openai")
    tokenizer = open_clip.get_tokenizer("ViT-B-32")
    """
    name, tag = (json.dumps(text, ensure_ascii=False) for text in (architecture, pretrained))
    weights = f", pretrained={tag}" if pretrained else ""
    return "\n".join(
        (
            "import open_clip",
            f"model, _, preprocess = open_clip.create_model_and_transforms({name}{weights})",
            f"tokenizer = open_clip.get_tokenizer({name})",
        )
    )
