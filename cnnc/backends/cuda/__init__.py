"""GPUs: kernels of PTX over a driver's memory. What is here computes a part of the ops, and no target has its name yet."""

from __future__ import annotations

from cnnc.backends.cuda.backend import CudaBackend

__all__ = ["CudaBackend"]
