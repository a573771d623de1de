"""Components of the libraries that do not train here, and checks that fail: what is said of each, and why."""

import json
from pathlib import Path

_STATE = "its state_dict has values other than tensors"
_RANKS = "Default process group has not been initialized"

OPTIMIZERS = {
    "po_adalomo": ("updates parameters during the backward pass", "there is no gradient to check, clip, reduce or log"),
    "po_lomo": ("updates parameters during the backward pass", "there is no gradient to check, clip, reduce or log"),
    "po_magma": ("wraps another optimizer", "its first argument is an optimizer object, which no setting can name"),
    "po_adashift": (_STATE, "it keeps gradients in a collections.deque, which a weights-only load refuses"),
    "po_conda": (_STATE, "it keeps a GaLoreProjector, an object of the library's own, in its state"),
    "po_scalableshampoo": (_STATE, "it keeps PreConditioner and Graft, objects of the library's own, in its state"),
    "po_bsam": (
        "Tensor list must have same number of elements",
        "its perturbation looks for the state `s` where there is none, in a plain torch loop, too",
    ),
    "po_demo": (_RANKS, "it reduces gradients itself, over a process group that must exist in every run"),
    "po_distributedmuon": (_RANKS, "it shares its steps out among ranks, over a process group that must exist"),
    "torch_sparseadam": ("does not support dense gradients", "gradients of networks here are dense"),
}
"""Name → (part of the message, reason)."""

NOT_RESUMED = {
    "timm_adahessian": "it draws from a generator of its own, whose state its state_dict leaves out",
}
"""Name → why a resumed fit is another one; it trains, and equals the plain loop."""

_NOT_RESUMABLE = "has no state_dict and load_state_dict to resume it"
_BY_NAME = "cannot be used by name"
SCHEDULERS = {
    "po_cosine": (_NOT_RESUMABLE, "the library's class has no state; warmup with cosine is the same schedule"),
    "po_linear": (
        _NOT_RESUMABLE,
        "the library's class has no state; warmup with torch_linear_lr is the same",
    ),
    "po_poly": ("", "the library's class takes its settings as **kwargs, and has no state"),
    "po_proportion": (_BY_NAME, "it maps the rates of another scheduler to the rho of GSAM"),
    "torch_chained_scheduler": (_BY_NAME, "it takes scheduler objects"),
    "torch_lambda_lr": (_BY_NAME, "it takes a function"),
    "torch_multiplicative_lr": (_BY_NAME, "it takes a function"),
    "torch_sequential_lr": (_BY_NAME, "it takes scheduler objects"),
}
"""Name → (part of the message, reason)."""

_TEXT = "the library's documentation is shown as it is"
_ATTRIBUTES = "torch's Optimizer.__getstate__ keeps groups and state, and the library reads attributes beside them"
_RATE = "its step size is no multiple of the group's lr"
_WARM = "its first steps are rectified to nothing or masked, or it adapts one step size for all groups"
REASONS = {
    "builds_from_its_defaults": "it is refused, see above",
    "decreases_a_logistic_loss": "with its defaults it rises first, or hardly moves in 30 steps",
    "decreases_a_quadratic": "with its defaults it rises first, or hardly moves in 30 steps",
    "deep_copy_is_the_same": _ATTRIBUTES,
    "defaults_have_declared_types": "the default is a member of an enumeration, and the annotation a number",
    "docstring_fits_a_page": _TEXT,
    "docstring_has_formula": _TEXT,
    "docstring_has_parameters": _TEXT,
    "docstring_has_ranges": _TEXT,
    "docstring_has_reference": _TEXT,
    "docstring_has_refusals": _TEXT,
    "extreme_scores_stay_finite": "torch computes log(1 + exp(−yz)), whose exponential overflows",
    "gradients_stay_unchanged": "the library works on the gradients in place, after they were checked and logged",
    "groups_keep_their_settings": f"{_RATE}, or {_WARM}",
    "groups_may_be_added": "the library sets up state for all groups at once, or the new group has to warm up",
    "is_a_scheduler": "it is refused, see above",
    "kernels_agree": "the library's foreach and single-tensor steps round differently, or draw other random numbers",
    "missing_gradients_are_skipped": f"the library needs a gradient of every parameter, or {_WARM}",
    "nan_is_refused": "the library's own range checks let NaN pass, or do not name the parameter",
    "optimizer_keeps_dtypes": "the library computes in one precision only",
    "optimizer_resumes": "in double precision its state is rounded or single; in single it resumes bit for bit",
    "optimizer_state_is_plain": "its state holds objects of the library's own, see above",
    "pickle_is_the_same": _ATTRIBUTES,
    "steps_on_meta_device": "its step reads values of tensors, which waits for the device",
    "takes_every_shape": "it is made for matrices or pairs of them, or its first steps are tiny",
    "zero_rate_changes_nothing": _RATE,
}
"""Check → why it fails for the components that `expected_checks.json` lists, unless these do not train at all."""

_OWN = {
    "po_alig": "its step calls the closure with gradients disabled, which only Lightning's closure enables",
    "po_fadam": "its step mixes single precision into double precision",
    "po_kron": "its preconditioners are made in single precision",
    "torch_lbfgs": "torch allows it a single parameter group",
}
"""Component → why its checks fail, whichever they are."""
_BY_KIND = ("docstring_", "nan_is", "deep_copy", "pickle")


def expected_checks() -> dict[str, dict[str, str]]:
    """`family:name` → check → why it fails."""
    listed: dict[str, list[str]] = json.loads(Path(__file__).with_name("expected_checks.json").read_text())
    found: dict[str, dict[str, str]] = {}
    for check, components in listed.items():
        for component in components:
            found.setdefault(component, {})[check] = _reason(component.partition(":")[2], check)
    return found


def _reason(name: str, check: str) -> str:
    if check.startswith(_BY_KIND):
        return REASONS[check]
    for reasons in (OPTIMIZERS, SCHEDULERS):
        if name in reasons:
            return reasons[name][1]
    return _OWN.get(name, REASONS[check])
