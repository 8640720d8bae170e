"""One file per structural rule."""
