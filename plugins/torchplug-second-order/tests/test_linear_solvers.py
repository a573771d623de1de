import numpy as np
import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st

from torchplug_second_order.linear_solvers import minimum_norm, shifted_cholesky, truncated_cg


def symmetric(eigenvalues, seed):
    generator = torch.Generator().manual_seed(seed)
    size = len(eigenvalues)
    basis = torch.linalg.qr(torch.randn(size, size, generator=generator, dtype=torch.float64))[0]
    return basis @ torch.diag(torch.tensor(eigenvalues, dtype=torch.float64)) @ basis.mT


def vector(size, seed):
    return torch.randn(size, generator=torch.Generator().manual_seed(100 + seed), dtype=torch.float64)


SPECTRA = st.lists(st.floats(-1e3, 1e3, allow_subnormal=False), min_size=1, max_size=6)


class TestShiftedCholesky:
    @settings(deadline=None)
    @given(eigenvalues=SPECTRA, seed=st.integers(0, 9))
    def test_the_factor_is_of_the_shifted_matrix(self, eigenvalues, seed):
        matrix = symmetric(eigenvalues, seed)
        factor, shift = shifted_cholesky(matrix.clone())
        identity = torch.eye(len(matrix), dtype=torch.float64)
        size = float(matrix.abs().max()) + shift
        torch.testing.assert_close(
            factor @ factor.mT, matrix + shift * identity, rtol=0, atol=1e-12 * max(size, 1e-300)
        )
        if min(eigenvalues) < 0:
            # enough, and not much more than enough
            assert shift >= -min(eigenvalues) * (1 - 1e-12) - 1e-12
            assert shift <= 4.1 * (abs(min(eigenvalues)) + 1e-8 * size)

    def test_a_positive_definite_matrix_is_left_as_it_is(self):
        matrix = symmetric([1e-6, 1.0, 1e6], 0)
        factor, shift = shifted_cholesky(matrix.clone())
        assert shift == 0
        torch.testing.assert_close(factor, torch.linalg.cholesky(matrix))

    def test_zero(self):
        factor, shift = shifted_cholesky(torch.zeros(3, 3, dtype=torch.float64))
        assert 0 < shift < 1e-6
        assert torch.isfinite(factor).all()

    def test_the_shift_does_not_depend_on_the_unit(self):
        matrix = symmetric([-1.0, 2.0, 5.0], 1)
        _, shift = shifted_cholesky(matrix.clone())
        _, scaled = shifted_cholesky(1e-9 * matrix)
        assert scaled == pytest.approx(1e-9 * shift, rel=1e-9)

    def test_not_finite(self):
        assert shifted_cholesky(torch.full((2, 2), torch.nan, dtype=torch.float64))[1] == torch.inf


class TestMinimumNorm:
    def test_full_rank(self):
        factor = torch.linalg.qr(torch.randn(9, 5, dtype=torch.float64))[1]
        target = vector(5, 0)
        torch.testing.assert_close(minimum_norm(factor, target), torch.linalg.solve(factor, target))

    def test_units_do_not_make_a_rank_deficient(self):
        units = torch.logspace(-15, 15, 5, dtype=torch.float64)
        generator = torch.Generator().manual_seed(0)
        factor = torch.linalg.qr(torch.randn(9, 5, generator=generator, dtype=torch.float64))[1] * units
        torch.testing.assert_close(minimum_norm(factor, factor @ (1.0 / units)) * units, torch.ones(5).double())

    def test_deficient(self):
        columns = torch.randn(9, 3, dtype=torch.float64)
        columns = columns / columns.norm(dim=0)
        dependent = columns[:, :2] @ torch.tensor([0.6, -0.8], dtype=torch.float64)
        matrix = torch.cat([columns, (dependent / dependent.norm())[:, None], torch.zeros(9, 1).double()], dim=1)
        target = vector(9, 1)
        orthogonal, factor = torch.linalg.qr(matrix)
        expected = np.linalg.lstsq(matrix.numpy(), target.numpy(), rcond=1e-12)[0]
        np.testing.assert_allclose(minimum_norm(factor, orthogonal.mT @ target), expected, atol=1e-10)


class TestTruncatedCG:
    def test_solves_a_positive_definite_system(self):
        matrix, gradient = symmetric([1.0, 2.0, 5.0, 10.0], 0), vector(4, 0)
        direction, curvature = truncated_cg(lambda v: matrix @ v, gradient, 1e-12, 50, lambda t: t)
        torch.testing.assert_close(direction, -torch.linalg.solve(matrix, gradient))
        assert curvature > 0

    @settings(deadline=None)
    @example([0.0, 769.2006487167982, 769.2006487167982, 0.0, 0.0, 769.2006487167982], 2, 0.25)  # a flat direction
    @given(eigenvalues=SPECTRA, seed=st.integers(0, 9), tolerance=st.floats(1e-8, 0.5))
    def test_always_downhill(self, eigenvalues, seed, tolerance):
        matrix, gradient = symmetric(eigenvalues, seed), vector(len(eigenvalues), seed)
        direction, _ = truncated_cg(lambda v: matrix @ v, gradient, tolerance, 20, lambda t: t)
        assert direction @ gradient < 0

    def test_negative_curvature_at_once_gives_the_gradient(self):
        gradient = vector(3, 0)
        direction, curvature = truncated_cg(lambda v: -2.0 * v, gradient, 0.1, 20, lambda t: t)
        assert torch.equal(direction, -gradient)
        assert curvature == pytest.approx(-2.0)

    def test_the_tolerance_is_met(self):
        matrix, gradient = symmetric(list(np.logspace(0, 3, 30)), 2), vector(30, 2)
        direction, _ = truncated_cg(lambda v: matrix @ v, gradient, 0.1, 100, lambda t: t)
        assert (matrix @ direction + gradient).norm() <= 0.1 * gradient.norm()

    def test_the_limit(self):
        products = []

        def product(v):
            products.append(v)
            return torch.linspace(1, 1e6, 30, dtype=torch.float64) * v

        truncated_cg(product, vector(30, 3), 1e-12, 7, lambda t: t)
        assert len(products) == 7
