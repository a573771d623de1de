"""A fault that shows when its module is imported for the first time, which is left to the check."""

import random

from planted.anything import Squared

random.seed(0)


class Seeding(Squared):
    pass
