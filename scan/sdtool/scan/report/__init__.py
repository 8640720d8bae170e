"""A Report as text, JSON or SARIF."""
