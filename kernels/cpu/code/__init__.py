"""The vector layer that kernels are written in, and from a kernel's function to machine code."""
