"""Judge what a pickle would do, without doing it."""
