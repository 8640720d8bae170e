"""Which lines could be lost without a test that fails: `python -m tests.mutation`."""
