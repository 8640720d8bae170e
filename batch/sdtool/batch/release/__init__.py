"""A release of one training checkpoint: its variants, and the record of their origin.

releasing   all files written in one reading of the input, or nothing
variants    the models: which weights, in which precisions
texts       the files beside them
modelspec   the metadata that programs and sites read, and its rules
ema_health  how far the EMA is from the raw weights
card        the model card, in Markdown
statement   the in-toto statement that binds the outputs to the input
sums        SHA256SUMS
"""
