"""Values that move, and do not change: see `plan`."""
