"""The objective: the scalar F(x) that is attributed, zero-shot logit or embedding.

F is the cosine between the image's embedding phi(x) and a constant direction u_k, one per image, times a scale s:

    F_k(x) = s <u_k, phi(x) / |phi(x)|>

With class names, u_k is the text embedding of the pseudo-label and s the model's logit scale (`zero_shot_objective`);
without, u_k is the embedding of the image itself, held constant, and s = 1 (`embedding_objective`).
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from vlmrank.models.precision import full_precision


@dataclass(frozen=True)
class Objective:
    """F_k(x) = s <u_k, phi(x) / |phi(x)|>.

    Attributes
    ----------
    name : `zero-shot` or `embedding`.
    directions : [K, D], unit length, constant.
    scale : s.
    pseudo_label : int64 [K], -1 where there are no classes.
    logits : [K, classes] or None.
    """

    name: str
    directions: Tensor
    scale: float
    pseudo_label: Tensor
    logits: Tensor | None = None

    def __call__(self, embedding: Tensor, rows: Tensor) -> Tensor:
        """Return F [N] of embeddings [N, D], of which row i belongs to image `rows[i]`."""
        if embedding.dtype in (torch.float16, torch.bfloat16):
            embedding = embedding.float()
        directions = self.directions.to(embedding)[rows.to(embedding.device)]
        return self.scale * (F.normalize(embedding, dim=-1) * directions).sum(-1)


def zero_shot_objective(embedding: Tensor, class_embedding: Tensor, scale: float) -> Objective:
    """Return the logit of the pseudo-label, y_k = argmax_c s <T_c, phi(x_k)>, as the objective.

    Never the softmax: it saturates, and the conductance vanishes with it.

    Parameters
    ----------
    embedding : [K, D], image embeddings phi(x_k); scaled to unit length here.
    class_embedding : [classes, D], class-text embeddings T_c; scaled to unit length here.
    scale : s > 0, the model's logit scale (the exponential already taken).

    Examples
    --------
    >>> import torch
    >>> objective = zero_shot_objective(torch.tensor([[3.0, 4.0]]), torch.eye(2), scale=10.0)
    >>> objective.pseudo_label.tolist(), objective(torch.tensor([[1.0, 0.0]]), torch.tensor([0])).tolist()
    ([1], [0.0])
    """
    with full_precision():
        logits = scale * F.normalize(embedding.detach(), dim=-1) @ F.normalize(class_embedding.detach(), dim=-1).T
    label = logits.argmax(-1)
    directions = F.normalize(class_embedding.detach(), dim=-1)[label]
    return Objective("zero-shot", directions, float(scale), label, logits)


def embedding_objective(embedding: Tensor) -> Objective:
    """Return the cosine to the image's own embedding, held constant, as the objective: F_k(x_k) = 1.

    Parameters
    ----------
    embedding : [K, D], image embeddings phi(x_k); scaled to unit length here.
    """
    directions = F.normalize(embedding.detach(), dim=-1)
    label = torch.full((len(embedding),), -1, dtype=torch.int64)
    return Objective("embedding", directions, 1.0, label)
