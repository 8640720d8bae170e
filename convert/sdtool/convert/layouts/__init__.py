"""The two layouts of one model: a single file in LDM's names, and a folder of diffusers."""
