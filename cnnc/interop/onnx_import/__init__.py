"""ONNX models as networks of ours: `cnnc.load("net.onnx")`.

reading.py     a file -> onnx.ModelProto, within bounds; where tensors outside of the file may lie
calls.py       the records of a model that is read: a call of an operator, what is known without running
known.py       arithmetic on what is known: sizes, constants, the open batch
folding.py     calls of which all operands are known
importer.py    calls -> graph, parameters, weights
rules/         what each operator becomes, a module for each kind
activations.py sums of operators that an activation stands for, found by their values
"""
