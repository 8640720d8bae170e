"""What kind of model a file holds, from names, shapes and dtypes."""
