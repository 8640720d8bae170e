"""Put the bytes of tensors into a new file."""
