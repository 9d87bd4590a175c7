import numpy as np
import pytest

from vlmrank.representation import block_shares, represent


def test_worked_by_hand():
    task = represent([np.array([[1.0, -3.0], [0.0, 2.0]]), np.array([[1.0, 1.0, -2.0], [6.0, 0.0, 0.0]])])
    np.testing.assert_allclose(task.block_mass, [[4, 4], [2, 6]], rtol=0, atol=1e-12)
    np.testing.assert_allclose(task.block_profile, [0.375, 0.625], rtol=0, atol=1e-12)
    np.testing.assert_allclose(task.channel_distribution[0], [1 / 6, 5 / 6], rtol=0, atol=1e-12)
    np.testing.assert_allclose(task.channel_distribution[1], [0.7, 0.1, 0.2], rtol=0, atol=1e-12)
    np.testing.assert_allclose(task.blocks[0], [[1, -3], [0, 2]], rtol=0, atol=0)
    assert task.n_images == 2


def test_no_conductance_is_uniform_shares_and_empty_distribution():
    task = represent([np.zeros((2, 3)), np.zeros((2, 1))])
    np.testing.assert_allclose(task.block_profile, [0.5, 0.5], rtol=0, atol=1e-12)
    np.testing.assert_allclose(task.channel_distribution[0], np.zeros(3), rtol=0, atol=0)
    np.testing.assert_allclose(block_shares(np.array([[0.0, 0.0], [1.0, 3.0]])), [[0.5, 0.5], [0.25, 0.75]], atol=1e-12)


@pytest.mark.parametrize(
    "blocks", [[], [np.zeros((0, 2))], [np.zeros((1, 2)), np.zeros((2, 2))], [np.array([[np.nan]])]]
)
def test_refuses(blocks):
    with pytest.raises(ValueError):
        represent(blocks)
