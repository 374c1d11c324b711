"""Convolutions over three axes of space, by the kernels for two."""
