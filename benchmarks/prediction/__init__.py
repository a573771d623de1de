"""How well the MLP recipe predicts, beside its peers; `accuracy.py` is where it starts."""
