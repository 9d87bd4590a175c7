"""Text embeddings of a loaded model, and the zero-shot classifier made of them."""

from __future__ import annotations

from collections.abc import Sequence

from vlmrank.errors import FailedPair


def text_embeddings(model, tokenizer, texts: Sequence[str], *, batch: int = 256):
    """Embeddings of texts.

    Parameters
    ----------
    model : has `encode_text`.
    tokenizer : texts -> tokens.
    texts : N texts.
    batch : texts per pass.

    Returns
    -------
    torch tensor [N, D] of unit length, on the model's device.
    """
    import torch
    import torch.nn.functional as F

    device = next(model.parameters()).device
    with torch.no_grad():
        parts = [model.encode_text(tokenizer(texts[i : i + batch]).to(device)) for i in range(0, len(texts), batch)]
        return F.normalize(torch.cat(parts), dim=-1)


def class_embeddings(model, tokenizer, classes: Sequence[str], templates: Sequence[str], *, batch: int = 256):
    """Text embedding of each class, averaged over the templates, as CLIP's zero-shot classifier does.

    T_c = normalise(mean over templates t of normalise(text(t with c))).

    Parameters
    ----------
    model, tokenizer, batch : as in `text_embeddings`.
    classes : C names.
    templates : with `{c}`; every other brace is left as it is.

    Returns
    -------
    torch tensor [C, D] of unit length, on the model's device.

    Raises
    ------
    FailedPair : two classes with different names are the same tokens to this model.
    """
    import torch.nn.functional as F

    texts = [template.replace("{c}", name) for name in classes for template in templates]
    _check_distinct(tokenizer, classes, templates)
    embedding = text_embeddings(model, tokenizer, texts, batch=batch)
    return F.normalize(embedding.view(len(classes), len(templates), -1).mean(1), dim=-1)


def _check_distinct(tokenizer, classes: Sequence[str], templates: Sequence[str]) -> None:
    """Refuse classes that the tokenizer makes one: cut at the end of the context, or of characters that it lacks."""
    seen: dict[tuple[float, ...], str] = {}
    for name, tokens in zip(classes, _tokens(tokenizer, classes, templates[:1]), strict=True):
        first = seen.setdefault(tokens, name)
        if first != name and _tokens(tokenizer, [first], templates) == _tokens(tokenizer, [name], templates):
            raise FailedPair(
                f"the classes {first[:60]!r} and {name[:60]!r} are the same {len(tokens)} tokens to this model: "
                "shorten the names or the templates, or write them in a script that it knows"
            )


def _tokens(tokenizer, classes: Sequence[str], templates: Sequence[str]) -> list[tuple[float, ...]]:
    texts = [template.replace("{c}", name) for name in classes for template in templates]
    return [tuple(tokens.flatten().tolist()) for tokens in tokenizer(texts)]
