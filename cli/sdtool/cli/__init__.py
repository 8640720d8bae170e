"""The command: verbs, wording, progress, exit codes, batches."""
