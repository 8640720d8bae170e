"""What was done with which content: so that a batch that was killed goes on where it was.

A journal is a file of its own, asked for by name. It says of a task (a verb with its options, done
by one version of the rules) and of an input what came of it, and what tells whether that still
holds. See docs/scale.md for what it believes.
"""

from sdtool.batch.journal.store import Journal, Row, open_journal

__all__ = ["Journal", "Row", "open_journal"]
