"""cnnc: a compiler for convolutional networks.

net = cnnc.load("resnet.cnn", depth=50)
net.load_weights("resnet50.safetensors")
exe = cnnc.compile(net)
y = exe(x)
"""

from __future__ import annotations

from importlib import import_module as _import_module
from pathlib import Path as _Path
from typing import TYPE_CHECKING, Any

if not (_Path(__file__).parent / "kernels").is_dir():  # an uninstalled checkout keeps them beside the package
    __path__.append(str(_Path(__file__).parent.parent))

from cnnc import forks as _forks  # noqa: F401  from now on a fork waits for what another thread imports

if TYPE_CHECKING:
    from cnnc.artifact import open_artifact as open
    from cnnc.artifact import save
    from cnnc.data.dataset import Dataset
    from cnnc.diagnostics import CnncError, Diagnostic
    from cnnc.driver import compile, load, parse, value_and_grad
    from cnnc.ir.layer import Argument, Layer, ParameterSpec, Site
    from cnnc.ir.op import InferenceError
    from cnnc.network import Network
    from cnnc.ops import register_layer
    from cnnc.runtime.executable import Executable
    from cnnc.train import Trainer, adadelta, adagrad, adam, adamw, loss, lsuv, rmsprop, sgd, start

__version__ = "0.1.0"

# Names are imported when they are first asked for: `import cnnc` is quick, and pulls neither NumPy nor Numba.
_HOMES = {
    "CnncError": "diagnostics",
    "Diagnostic": "diagnostics",
    "Network": "network",
    "Executable": "runtime.executable",
    "compile": "driver",
    "load": "driver",
    "parse": "driver",
    "value_and_grad": "driver",
    "save": "artifact",
    "open": "artifact:open_artifact",
    "Trainer": "train",
    "sgd": "train",
    "adam": "train",
    "adadelta": "train",
    "adagrad": "train",
    "adamw": "train",
    "rmsprop": "train",
    "Dataset": "data.dataset",
    "loss": "train",
    "Argument": "ir.layer",
    "InferenceError": "ir.op",
    "Layer": "ir.layer",
    "ParameterSpec": "ir.layer",
    "Site": "ir.layer",
    "register_layer": "ops",
    "start": "train",
    "lsuv": "train",
}
__all__ = [
    "Argument",
    "CnncError",
    "Dataset",
    "Diagnostic",
    "Executable",
    "InferenceError",
    "Layer",
    "Network",
    "ParameterSpec",
    "Site",
    "Trainer",
    "adadelta",
    "adagrad",
    "adam",
    "adamw",
    "compile",
    "load",
    "loss",
    "lsuv",
    "open",
    "parse",
    "register_layer",
    "rmsprop",
    "save",
    "sgd",
    "start",
    "value_and_grad",
]


def __getattr__(name: str) -> Any:
    home = _HOMES.get(name)
    if home is None:
        try:
            return _import_module(f"{__name__}.{name}")
        except ModuleNotFoundError:
            raise AttributeError(f"module 'cnnc' has no attribute '{name}'") from None
    module, _, attribute = home.partition(":")
    value = getattr(_import_module(f"{__name__}.{module}"), attribute or name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted([*globals(), *_HOMES])
