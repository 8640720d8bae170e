"""Read checkpoints without running them."""
