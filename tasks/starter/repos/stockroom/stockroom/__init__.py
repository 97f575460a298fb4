"""What lies in a small stockroom, and what it is worth."""
