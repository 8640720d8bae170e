"""One file per container format: bytes in, streams and records out."""
