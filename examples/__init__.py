"""Examples: a face, voices, and requests that use them."""
