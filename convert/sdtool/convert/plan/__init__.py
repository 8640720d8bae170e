"""What goes into an output, under which name and in which type, before a byte is written."""
