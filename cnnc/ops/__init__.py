"""The ops. Importing this package registers all of them, and the layers of the language."""

from cnnc.ops import conv, groups, linear, loss, norm, pointwise, pool, shape

__all__ = ["conv", "groups", "linear", "loss", "norm", "pointwise", "pool", "shape"]
