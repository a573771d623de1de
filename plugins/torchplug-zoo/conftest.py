"""What pytest does not collect: the docstrings of other libraries' classes."""

collect_ignore = ["src/torchplug_zoo/losses.py"]
