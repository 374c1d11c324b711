"""The ops. Importing this package registers all of them, and the layers of the language: every module here is imported."""

from importlib import import_module
from pkgutil import iter_modules

from cnnc.ir.layer import register_layer as register_layer  # behind those of every module here

for _module in iter_modules(__path__):
    import_module(f"{__name__}.{_module.name}")
