"""`parametrize_with_checks`: which tests there are, which are expected to fail, and what is refused."""

import pytest

from torchplug.errors import ConfigurationError, UnknownComponentError
from torchplug.testing import parametrize_with_checks, select, subject

LOSSES = """
from torchplug import Loss


class Good(Loss):
    kind = "regression"

    def forward(self, scores, target):
        return (scores - target).square().sum(1)


class Mean(Good):
    def forward(self, scores, target):
        return (scores - target).square().mean()
"""


@pytest.fixture
def acme(distributions):
    distributions.module("acme_losses", LOSSES)
    distributions.offer("acme", ("losses", "good", "acme_losses:Good"), ("losses", "mean", "acme_losses:Mean"))


def cases(**settings):
    """What the decorator adds to a test, by id."""
    mark = parametrize_with_checks("acme", quick=True, **settings).mark
    assert mark.args[0] == ("component", "check")
    return {case.id: case for case in mark.args[1]}


def test_each_check_of_each_component_is_a_test(acme):
    found = cases()
    component, check = found["loss-mean-value_per_row"].values
    with pytest.raises(AssertionError, match="loss:mean: value_per_row: forward returns"):
        check(component)
    component, check = found["loss-good-value_per_row"].values
    check(component)
    assert "loss-good-compiles_whole" not in found
    assert "loss-good-decreases_a_quadratic" not in found


def test_what_does_not_apply_is_skipped_with_the_reason(acme):
    component, check = cases()["loss-good-pieces_are_the_slopes"].values
    with pytest.raises(pytest.skip.Exception, match="not applicable: it declares no `pieces`"):
        check(component)


@pytest.mark.parametrize("name", ["mean", "loss:mean"])
def test_an_expected_failure_is_strict(acme, name):
    found = cases(expected_failed_checks={name: {"value_per_row": "it averages"}})
    (mark,) = found["loss-mean-value_per_row"].marks
    assert mark.name == "xfail"
    assert mark.kwargs == {"reason": "it averages", "strict": True}
    assert not found["loss-good-value_per_row"].marks


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"expected_failed_checks": {"maen": {"value_per_row": "why"}}}, "no component 'maen' .* did you mean mean?"),
        (
            {"expected_failed_checks": {"mean": {"value_per_rov": "why"}}},
            "'value_per_rov' of losses: .* value_per_row?",
        ),
        ({"parameters": {"loss:maen": {}}}, "parameters: no component 'loss:maen'"),
    ],
)
def test_what_is_declared_for_nothing_is_refused(acme, settings, message):
    with pytest.raises(ConfigurationError, match=message):
        cases(**settings)


def test_an_unknown_distribution_is_refused(acme):
    with pytest.raises(UnknownComponentError, match=r"did you mean acme\?"):
        parametrize_with_checks("acne")


def test_a_component_is_declared_by_its_family_where_its_name_is_not_unique():
    l1 = {"parameters": {"l1": {}}}
    with pytest.raises(ConfigurationError, match="'l1' means loss:l1 and regularizer:l1"):
        parametrize_with_checks("torchplug", quick=True, **l1)


def test_declared_parameters_reach_the_component():
    (manual,) = select("manual")
    component = subject(manual, {"table": {2: 0.01}})
    assert component.resolved().parameters == {"table": {2: 0.01}}
