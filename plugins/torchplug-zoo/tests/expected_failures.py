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
