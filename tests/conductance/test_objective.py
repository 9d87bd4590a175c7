import numpy as np
import pytest
import torch

from vlmrank.conductance.objective import embedding_objective, zero_shot_objective


def test_zero_shot_is_the_logit_of_the_pseudo_label():
    generator = torch.Generator().manual_seed(0)
    embedding = torch.randn(4, 8, generator=generator, dtype=torch.float64)
    text = torch.randn(5, 8, generator=generator, dtype=torch.float64)
    objective = zero_shot_objective(embedding, text, scale=30.0)
    cosine = torch.nn.functional.cosine_similarity(embedding[:, None], text[None], dim=-1)
    np.testing.assert_allclose(objective.logits, 30 * cosine, rtol=1e-12)
    np.testing.assert_array_equal(objective.pseudo_label, cosine.argmax(1))
    rows = torch.tensor([2, 0, 0])
    np.testing.assert_allclose(objective(embedding[rows], rows), 30 * cosine.amax(1)[rows], rtol=1e-12)


def test_the_direction_stays_constant_on_the_way():
    embedding = torch.tensor([[1.0, 0.0], [0.0, 2.0]], requires_grad=True)
    objective = embedding_objective(embedding)
    assert not objective.directions.requires_grad and objective.pseudo_label.tolist() == [-1, -1]
    rows = torch.tensor([0, 1])
    np.testing.assert_allclose(objective(embedding, rows).detach(), [1, 1], rtol=1e-6)
    other = torch.tensor([[0.0, 3.0]])
    assert objective(other, torch.tensor([0])).item() == pytest.approx(0, abs=1e-6)


def test_half_precision_embeddings_are_scored_in_float32():
    objective = embedding_objective(torch.tensor([[3.0, 4.0]]))
    score = objective(torch.tensor([[3.0, 4.0]], dtype=torch.bfloat16), torch.tensor([0]))
    assert score.dtype == torch.float32
