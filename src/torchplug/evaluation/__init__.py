"""Metrics of evaluated splits, and coefficients in the table's units."""
