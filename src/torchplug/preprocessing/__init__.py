"""Preprocessing fitted on the training split: encoding, scaling, classes and units."""

from torchplug.preprocessing.features import check_columns
from torchplug.preprocessing.fitted import Preprocessing
from torchplug.preprocessing.requirements import DataRequirements
from torchplug.preprocessing.rules import EncodingRules, HandleUnknown, Impute, Scale
from torchplug.preprocessing.substitutions import Substitutions
from torchplug.preprocessing.target_fit import TargetFit, TargetReading

__all__ = [
    "DataRequirements",
    "EncodingRules",
    "HandleUnknown",
    "Impute",
    "Preprocessing",
    "Scale",
    "Substitutions",
    "TargetFit",
    "TargetReading",
    "check_columns",
]
