"""New files: their headers, their bytes, their hashes, and how they take their names."""
