"""Who takes part, by the names that tables and figures use."""

OURS = "torchplug"
OURS_AUTOGRAD = "torchplug, engine autograd"
OURS_COMPILED = "torchplug, engine compiled"
OURS_SILENT = "torchplug, logging off"
BARE = "bare torch loop"
BARE_FUSED = "bare torch loop, fused Adam"
LIGHTNING = "Lightning + DataLoader"
SKORCH = "skorch"
SKLEARN_MLP = "scikit-learn MLP"
SKLEARN_SGD = "scikit-learn SGD"
KERAS = "Keras on torch"

ALL = (
    OURS,
    OURS_AUTOGRAD,
    OURS_COMPILED,
    OURS_SILENT,
    BARE,
    BARE_FUSED,
    LIGHTNING,
    SKORCH,
    SKLEARN_MLP,
    SKLEARN_SGD,
    KERAS,
)
NETWORKS = tuple(name for name in ALL if name != SKLEARN_SGD)
CLASSIFIERS = (OURS, OURS_COMPILED, BARE_FUSED, LIGHTNING, SKORCH, SKLEARN_MLP)
