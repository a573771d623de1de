"""Training by minibatches, this library and its peers side by side; `run.py` is where it starts."""
