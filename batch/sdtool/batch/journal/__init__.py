"""What was done with which content, so that a batch can be resumed after a kill.

A journal is a separate file, used on request. For a task (a verb with its options, done by one
version of the rules) and an input it records the result, and the stamps that show whether the
result is still valid. docs/scale.md says when an entry is trusted.
"""

from sdtool.batch.journal.store import Journal, Row, open_journal

__all__ = ["Journal", "Row", "open_journal"]
