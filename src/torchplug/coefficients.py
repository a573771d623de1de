"""A linear model's coefficients in the units of the user's table, and how sure they are."""

from __future__ import annotations

from typing import Any

import polars
import torch
from torch import nn

from torchplug.errors import ConfigurationError
from torchplug.models import Linear
from torchplug.preprocessing import Preprocessing


def original_coefficients(network: nn.Module, preprocessing: Preprocessing | None) -> list[tuple[str, str, float]]:
    """(output, feature, coefficient) in original units, float64, each output's intercept first.

    Raises:
        ConfigurationError: if the model is not linear, or not fitted.
    """
    if not isinstance(network, Linear) or preprocessing is None:
        raise ConfigurationError("only a fitted linear model has coefficients")
    weight, bias = network.map.weight.detach().cpu().double(), network.map.bias
    return preprocessing.original_coefficients(weight, None if bias is None else bias.detach().cpu().double())


def coefficient_table(network: nn.Module, preprocessing: Preprocessing | None, statistics: Any) -> polars.DataFrame:
    """Output, feature and coefficient, a row each.

    Args:
        network: a linear model.
        preprocessing: what it was fitted with.
        statistics: how sure the trained coefficients are, as an optimizer's `statistics` says it, or None. With them
            there are also standard_error, t and p (two-sided), and r_squared of each output.

    Raises:
        ConfigurationError: if the model is not linear, or not fitted.
    """
    rows = original_coefficients(network, preprocessing)
    table = polars.DataFrame(rows, schema=["output", "feature", "coefficient"], orient="row")
    if statistics is None:
        return table
    assert isinstance(network, Linear), "only linear models have coefficients"
    assert preprocessing is not None, "coefficients come with preprocessing"
    outputs = len(network.map.weight)
    values = torch.tensor(table["coefficient"].to_list(), dtype=torch.float64).view(outputs, -1).mT
    to_original = preprocessing.original_map(intercept=network.map.bias is not None)
    sure = statistics.mapped(values, to_original, preprocessing.target_scale)
    columns = {
        "standard_error": sure.standard_error,
        "t": sure.t,
        "p": sure.p,
        "r_squared": sure.r_squared.expand_as(sure.t),
    }
    return table.with_columns(polars.Series(name, value.mT.reshape(-1).numpy()) for name, value in columns.items())
