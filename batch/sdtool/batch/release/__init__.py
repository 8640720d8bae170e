"""A release of one training checkpoint: its variants, and the record of their origin.

releasing   the variants written in one reading, and all other files with them, or nothing
modelspec   the metadata that programs and sites read, and its rules
ema_health  how far the EMA is from the raw weights
card        the model card, in Markdown
statement   the in-toto statement that binds the outputs to the input
sums        SHA256SUMS
"""
