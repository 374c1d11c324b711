"""cnnc: a compiler for convolutional networks."""
from __future__ import annotations

from pathlib import Path as _Path

if not (_Path(__file__).parent / "kernels").is_dir():       # an uninstalled checkout keeps these two beside the package
    __path__.append(str(_Path(__file__).parent.parent))

__version__ = "0.1.0"
