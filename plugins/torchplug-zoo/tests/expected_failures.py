"""Components of the libraries that do not train here: what is said of each, and the true reason."""

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
    "po_chebyshev": ("", "its rates are NumPy scalars, which a weights-only load refuses"),
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


def CHECKS(component: str) -> dict[str, str]:  # noqa: N802
    """Check → why it fails, of a component."""
    return {}
