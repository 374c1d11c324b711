"""What becomes machine code."""
