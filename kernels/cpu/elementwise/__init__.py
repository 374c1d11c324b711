"""Maps, sums, layouts, losses: kernels whose loops walk over tensors."""
