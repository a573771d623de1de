"""Settings by their dotted names, such as `model.optimizer.lr`: read as their types, from text or plain values."""
