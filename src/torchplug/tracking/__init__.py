"""Run directories, metric rows, provenance, checkpoints and Weights & Biases."""
