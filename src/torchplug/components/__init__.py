"""Base classes of component families, what follows from a loss's kind, and the built-in components."""
