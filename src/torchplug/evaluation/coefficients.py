"""Coefficients, of linear models in the units of the user's table, and their standard errors."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Mapping
from typing import Any

import polars
import torch
from torch import Tensor, nn

from torchplug.components.contracts import LinearScores, linear_scores
from torchplug.errors import ConfigurationError
from torchplug.preprocessing import Preprocessing


def original_coefficients(network: nn.Module, preprocessing: Preprocessing | None) -> list[tuple[str, str, float]]:
    r"""A linear model's coefficients for features and target in their own units, float64.

        b_j = t·w_j / s_j,    intercept = c + t·(bias − Σ_j w_j m_j / s_j)

    with m, s the features' and c, t the target's center and scale. A feature that is scaled by a function that is not
    affine has m = 0 and s = 1: its coefficient is that of the scaled feature, which is called `robust(x)` or
    `quantile(x)`.

    Returns:
        (output, feature, coefficient), each output's intercept first, as feature `(intercept)`; it is omitted if there
        is no bias and no shift. Features that are zero in all training rows have coefficient 0.

    Raises:
        ConfigurationError: if the model is not linear, or not fitted.
    """
    linear = linear_scores(network)
    if linear is None or preprocessing is None:
        raise ConfigurationError("only a fitted linear model has coefficients")
    names, values = coefficients_of(linear, preprocessing)
    return [(output, feature, value) for (output, feature), value in zip(names, values.tolist(), strict=True)]


def coefficients_of(linear: LinearScores, preprocessing: Preprocessing) -> tuple[list[tuple[str, str]], Tensor]:
    """Return names and values of coefficients as `original_coefficients` does, of one linear map or of several.

    Args:
        linear: weights (…, k, d) and biases (…, k).
        preprocessing: fitted.

    Returns:
        (output, feature) of the c coefficients; their values (…, c).
    """
    slopes, offset = _slopes_and_offset(linear, preprocessing)
    values, features = slopes, preprocessing.scaling.coefficient_names(preprocessing.feature_names)
    center, _ = preprocessing.scaling.affine_part
    if linear.bias is not None or bool(center.any() or preprocessing.target_center.any()):
        values, features = torch.cat([offset.unsqueeze(-1), slopes], dim=-1), ["(intercept)", *features]
    outputs = preprocessing.target_coding.output_names(slopes.shape[-2])
    return [(output, name) for output in outputs for name in features], values.flatten(start_dim=-2)


def _slopes_and_offset(linear: LinearScores, preprocessing: Preprocessing) -> tuple[Tensor, Tensor]:
    """Coefficients (…, k, d) and intercepts (…, k) in original units."""
    weight = linear.weight.detach().cpu().double()
    center, scale = preprocessing.scaling.affine_part
    slopes = torch.where(preprocessing.scaling.zero_variance, 0.0, weight / scale)
    offset = -(slopes @ center)
    if linear.bias is not None:
        offset = offset + linear.bias.detach().cpu().double()
    if preprocessing.target_coding.task.has_classes:
        return slopes, offset
    k = weight.shape[-2]
    each = k // len(preprocessing.info.columns)
    slopes = slopes * preprocessing.target_scale.repeat_interleave(each).unsqueeze(1)
    return slopes, preprocessing.original_units(offset.reshape(-1, k)).view_as(offset)


def original_map(preprocessing: Preprocessing, intercept: bool) -> Tensor:
    r"""Return L, which maps a linear map's trained coefficients to those of features in their own units.

        b_j = w_j / s_j,    b₀ = w₀ − Σ_j w_j m_j / s_j

    Args:
        preprocessing: fitted; m and s are the features' center and scale, as in `original_coefficients`.
        intercept: whether there is one; its row and column come first.

    Shape:
        (1 + d, 1 + d), or (d, d) without an intercept.
    """
    center, scale = preprocessing.scaling.affine_part
    if not intercept:
        return torch.diag(1.0 / scale)
    found = torch.diag(torch.cat([torch.ones_like(scale[:1]), 1.0 / scale]))
    found[0, 1:] = -center / scale
    return found


def coefficient_table(
    network: nn.Module, preprocessing: Preprocessing | None, statistics: Any, parameters: Iterable[tuple[str, Tensor]]
) -> polars.DataFrame:
    """The coefficients, a row each, with standard errors where there are statistics.

    A linear model has the columns output, feature and coefficient, in original units, or in those of features scaled by
    another function than an affine one. A curve of the user's has
    parameter and coefficient, as they were trained. With statistics there follow standard_error, t or z, p (two-sided),
    lower_95 and upper_95, and for linear least squares r_squared of each output. Where the statistics are relative to
    a reference class, so are the coefficients, and what is not determined is null.

    Args:
        network: a linear model, or any other for which there are statistics.
        preprocessing: what it was fitted with.
        statistics: an optimizer's `statistics` of the trained coefficients, or None.
        parameters: the trained parameters by name, in the order of the statistics.

    Raises:
        ConfigurationError: if the model is neither linear nor has statistics, or is not fitted.
    """
    linear = linear_scores(network)
    if linear is None and statistics is not None:
        columns = statistics.parameter_columns()
        if columns is not None:
            return polars.DataFrame({"parameter": _element_names(parameters)}).with_columns(_series(columns))
    rows = original_coefficients(network, preprocessing)
    table = polars.DataFrame(rows, schema=["output", "feature", "coefficient"], orient="row")
    if statistics is None:
        return table
    assert linear is not None, "only linear models have coefficients"
    assert preprocessing is not None, "coefficients come with preprocessing"
    outputs = len(linear.weight)
    values = torch.tensor(table["coefficient"].to_list(), dtype=torch.float64).view(outputs, -1).mT
    to_original = original_map(preprocessing, intercept=linear.bias is not None)
    units = preprocessing.target_scale
    # one column of classes has a score for each class, none of which is scaled
    units = units if len(units) == outputs else torch.ones(outputs, dtype=torch.float64)
    return table.with_columns(_series(statistics.columns(values, to_original, units)))


def _series(columns: Mapping[str, Tensor]) -> list[polars.Series]:
    """Columns of tensors (m,), or (m, k) output after output; NaN as null."""
    flat = {name: value.movedim(-1, 0).reshape(-1) for name, value in columns.items()}
    return [polars.Series(name, value.numpy()).fill_nan(None) for name, value in flat.items()]


def _element_names(parameters: Iterable[tuple[str, Tensor]]) -> list[str]:
    """`b` for a number, `b[0]`, `b[1]` for a vector, `b[0,1]` for a matrix."""
    return [
        f"{name}[{','.join(map(str, index))}]" if index else name
        for name, parameter in parameters
        for index in itertools.product(*map(range, parameter.shape))
    ]
