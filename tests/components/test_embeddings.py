"""Embeddings against their formulas, and what networks learn with them."""

import numpy as np
import pytest
import torch
from scipy.stats import norm

from torchplug import CategoryEmbedding, PiecewiseLinearEmbedding
from torchplug.components.models import MLP


class TestPeriodicEmbedding:
    def test_each_feature_has_itself_and_mixtures_of_its_cosines(self):
        torch.manual_seed(0)
        embedding = MLP(3, 1, hidden=[4], embedding="periodic").double().layers[0]
        x = torch.randn(5, 3, dtype=torch.float64)
        out = embedding(x).detach().numpy().reshape(5, 3, 4)
        f, phase, V, c = (p.detach().numpy() for p in embedding.parameters())
        for i in range(5):
            for j in range(3):
                cosines = np.cos(2 * np.pi * f[j] * float(x[i, j]) + phase[j])
                np.testing.assert_allclose(
                    out[i, j], [float(x[i, j]), *(cosines @ V[j] + c[j])], rtol=1e-13, atol=1e-14
                )

    def test_the_network_takes_the_embedded_width(self):
        model = MLP(6, 2, hidden=[5], embedding="periodic")
        assert model.layers[1].in_features == 24
        assert model(torch.randn(7, 6)).shape == (7, 2)
        assert MLP(6, 2, hidden=[], embedding="periodic")(torch.randn(7, 6)).shape == (7, 2)

    def test_frequencies_start_at_the_scale(self):
        torch.manual_seed(0)
        frequency = MLP(500, 1, embedding="periodic", frequency_scale=2.0).layers[0].frequency
        assert frequency.detach().std().item() == pytest.approx(2.0, rel=0.03)
        assert frequency.detach().mean().item() == pytest.approx(0.0, abs=0.1)

    @pytest.mark.parametrize(
        ("settings", "message"),
        [
            ({"embedding": "fourier"}, "embedding must be one of periodic, piecewise_linear"),
            ({"frequency_scale": 0.0}, "must be positive"),
        ],
    )
    def test_what_cannot_be_is_refused(self, settings, message):
        with pytest.raises(ValueError, match=message):
            MLP(3, 1, **settings)

    def test_it_learns_what_oscillates_where_a_plain_network_does_not(self):
        x = torch.linspace(-2, 2, 64).unsqueeze(1)
        y = torch.sin(12 * x)
        losses = {}
        for embedding in (None, "periodic"):
            torch.manual_seed(0)
            model = MLP(1, 1, hidden=[32], activation="silu", embedding=embedding, frequency_scale=1.0)
            optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
            for _ in range(300):
                loss = (model(x) - y).square().mean()
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
            losses[embedding] = loss.item()
        assert losses["periodic"] < 0.01 < losses[None]


class TestPiecewiseLinearEmbedding:
    def test_each_feature_becomes_functions_that_are_piecewise_linear_in_it(self):
        torch.manual_seed(0)
        embedding = PiecewiseLinearEmbedding(2, bins=4, size=3).double()
        with torch.no_grad():
            embedding.weight.normal_()
        knots = norm.ppf(np.linspace(norm.cdf(-2.5), norm.cdf(2.5), 5))
        np.testing.assert_allclose(embedding.knots.numpy(), knots, rtol=1e-6, atol=1e-7)
        x = torch.linspace(-4, 4, 33, dtype=torch.float64).unsqueeze(1).repeat(1, 2)
        out = embedding(x).detach().numpy().reshape(33, 2, 3)
        slope, weight, bias = (p.detach().numpy() for p in (embedding.slope, embedding.weight, embedding.bias))
        levels = np.concatenate([np.zeros((2, 1, 3)), weight.cumsum(1)], axis=1)  # at the knots
        for j in range(2):
            for m in range(3):
                expected = np.interp(x[:, j], embedding.knots, levels[j, :, m]) + x[:, j].numpy() * slope[j, m]
                np.testing.assert_allclose(out[:, j, m], expected + bias[j, m], rtol=1e-12, atol=1e-12)

    def test_normal_numbers_fall_into_each_bin_equally_often(self):
        knots = PiecewiseLinearEmbedding(1, bins=10).knots
        counts, _ = np.histogram(norm.ppf(np.linspace(0.00001, 0.99999, 100_000)), knots.double().numpy())
        assert counts.max() - counts.min() <= 2

    @pytest.mark.parametrize(
        ("settings", "message"), [({"bins": 1}, "bins must be at least 2"), ({"size": 0}, "size must be at least 1")]
    )
    def test_what_cannot_be_is_refused(self, settings, message):
        with pytest.raises(ValueError, match=message):
            PiecewiseLinearEmbedding(3, **settings)


class TestCategoryEmbedding:
    def test_each_level_has_a_vector_and_other_features_come_first(self):
        torch.manual_seed(0)
        embedding = CategoryEmbedding(7, [(1, 4), (5, 7)], size=2)
        levels = torch.tensor([[0, 1], [2, 0], [1, 1]])
        x = torch.zeros(3, 7)
        x[:, 0], x[:, 4] = torch.tensor([0.1, 0.2, 0.3]), torch.tensor([1.0, 2.0, 3.0])
        x[torch.arange(3), 1 + levels[:, 0]] = 1.0
        x[torch.arange(3), 5 + levels[:, 1]] = 1.0
        first, second = embedding.tables
        expected = torch.cat([x[:, [0, 4]], first[levels[:, 0]], second[levels[:, 1]]], dim=1)
        assert embedding.width == 6
        torch.testing.assert_close(embedding(x), expected)
