"""What each operator becomes. The modules register their rules in `importer.RULES`."""

from cnnc.interop.onnx_import.rules import linear, losses, norm, pointwise, quantized, resize, shape, windows  # noqa: F401
