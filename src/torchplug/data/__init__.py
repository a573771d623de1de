"""From a table to batches: reading, splitting, encoding, loading."""
