"""From stored elements to those of an output: order, casts, scales, and what they did."""
