"""From the paths a person names to the files to work on."""
