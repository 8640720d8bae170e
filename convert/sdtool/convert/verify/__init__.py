"""Whether a file is whole, and whether it holds the values of another."""
