"""The codes of causes for which a rung fails, with their remedies."""

from __future__ import annotations

from torchplug.workflow.finding import Finding

_CAUSES: dict[str, tuple[str, tuple[str, ...]]] = {
    "TPL001": (
        "loss or gradient not finite",
        ("look for NaN, infinity, log(0) and division by zero in network and loss",),
    ),
    "TPL002": (
        "rows of a batch are mixed",
        ("compute along the axis of features: dim=1, not dim=0; keep the rows apart in reshape and view",),
    ),
    "TPL003": (
        "random in evaluation",
        ("switch dropout and noise off in evaluation: nn.Dropout, or F.dropout(x, training=self.training)",),
    ),
    "TPL004": (
        "dead or saturated units",
        ("initialize biases at 0 and weights by He's or Glorot's rule", "--model.model.activation silu"),
    ),
    "TPL005": ("units of a layer are identical", ("initialize weights at random, not with a constant",)),
    "TPL006": (
        "scores ignore the inputs",
        ("use the features in forward; look for factors of 0 and overwritten tensors",),
    ),
    "TPL007": (
        "no gradient reaches a layer",
        ("look for detach(), torch.no_grad(), .data, item() and argmax between the layer and the scores",),
    ),
    "TPL008": ("a layer is frozen", ("set requires_grad, or leave the layer frozen if that is intended",)),
    "TPL009": (
        "the network applies the link, and the loss does so again",
        ("return raw scores: leave sigmoid and softmax to the loss",),
    ),
    "TPL010": (
        "scores cannot reach the targets",
        ("leave out the activation after the last layer", "choose the loss for these targets: --model.loss"),
    ),
    "TPL011": (
        "equal rows with different targets",
        ("correct the table: look for duplicated rows, and for a feature that is missing or rounded",),
    ),
    "TPL012": ("inputs are not scaled", ("--data.scale standard",)),
    "TPL013": ("learning rate too high", ("lower --model.optimizer.lr",)),
    "TPL014": ("learning rate too low", ("raise --model.optimizer.lr", "train longer: raise --trainer.max_epochs")),
    "TPL015": (
        "the model is too small",
        ("raise --model.model.hidden", "--model.model mlp in place of a linear model"),
    ),
    "TPL016": (
        "targets do not belong to their rows, or the features say nothing about them",
        ("look for a column that was sorted or joined by itself", "add features that the target depends on"),
    ),
    "TPL017": (
        "shuffled targets are predicted",
        (
            "begin with new weights: look for a network that was trained before, or that keeps targets",
            "draw the validation split at random: look for one whose targets differ from those of the training split",
        ),
    ),
    "TPL018": (
        "penalties too strong",
        ("lower the coefficient in --model.regularizers, or --model.optimizer.weight_decay",),
    ),
    "TPL019": ("dropout too strong", ("lower --model.model.dropout",)),
    "TPL020": (
        "cause not found",
        ("another --model.optimizer", "look at the losses in losses.csv, and for bounds of loss and scores"),
    ),
}
CODES = {code: name for code, (name, _) in _CAUSES.items()}
"""What each code stands for."""


def cause(code: str, evidence: str) -> Finding:
    """A cause with its evidence."""
    name, remedies = _CAUSES[code]
    return Finding(code, name, evidence, remedies)
