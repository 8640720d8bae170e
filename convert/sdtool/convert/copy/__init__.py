"""From the storages of an input to places in new files: inside the kernel, or through buffers."""
