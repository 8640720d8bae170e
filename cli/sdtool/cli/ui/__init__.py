"""A page on this machine over a few folders: what is in them, and work on it with a click.

A browser shows pages of strangers beside it, so a request counts only with the token of this run,
to this host, from this page; files go by numbers that this run gave them; and no original is
removed before a second yes. See docs/cli.md, `ui`.
"""
