"""Choose which weights to keep, under which name, in which precision."""
