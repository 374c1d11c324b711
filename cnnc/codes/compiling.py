"""Graphs and Plans as text, passes, compiling, calling what was compiled, and training. The examples are lines of each."""

from __future__ import annotations

from cnnc.codes.entry import Code

COMPILING: dict[str, Code] = {
    # ------------------------------------------------------------------------------------------- E05xx: IR text
    "E0501": Code(
        "IR text that cannot be read",
        "The text does not follow the grammar of the IR, or is too long or nested too deep.",
        "graph @g(%x: f32[N,3) {}",
        "Compare with what `cnnc ir` prints.",
    ),
    "E0502": Code(
        "graph that is not well formed",
        "A value is used before it is defined or defined twice, an op is unknown, or its operands or attributes "
        "are not what the op has.",
        "%y = rleu(%x) : f32[N,3]",
        "The message names the node.",
    ),
    "E0503": Code(
        "layouts that do not fit",
        "Operands have layouts that the op cannot read together, or a layout does not suit the rank.",
        "%z = add(%x, %y) : f32[N,16,8,8] nchw16c",
        "Convert one side with a layout node.",
    ),
    "E0504": Code(
        "declared type that is not the inferred one",
        "Every node prints its type; reading it back infers the type anew and compares.",
        "%y = relu(%x) : f32[N,4]",
        "Correct the type, or the operands.",
    ),
    "E0505": Code(
        "plan text that cannot be read",
        "The text is not a Plan as `cnnc ir --plan` prints it.",
        "plan",
        "Print the plan again.",
    ),
    # ------------------------------------------------------------------------------------------- E07xx: calling
    "E0701": Code(
        "input that cannot be used",
        "What is given is no array of numbers, or of a type that is not converted.",
        'exe("seven.png")',
        "Give a NumPy array, or anything with the buffer protocol or __dlpack__.",
    ),
    "E0702": Code(
        "input of the wrong shape",
        "The array has another shape than the input, or the inputs have different batches.",
        "exe(numpy.zeros((28, 28)))",
        "Add the batch: x[None, None].",
    ),
    "E0703": Code(
        "wrong inputs",
        "There are too many inputs, too few, or one of an unknown name.",
        "exe(x, y)",
        "The message lists the inputs.",
    ),
    "E0704": Code(
        "count that is no count",
        "Threads, batches and epochs are whole numbers from 1 on.",
        "cnnc.compile(net, threads=0)",
        "Leave the argument out for the default.",
    ),
    "E0705": Code(
        "output that is not of an image",
        "`cnnc run` prints what the network says of each image; an output without a batch says something of all of them.",
        "model m() { input x: f32[N, 3, 8, 8]  return x -> mean(axis=0) }",
        "Keep the batch as the first axis, or call the network in Python.",
    ),
    "E0706": Code(
        "argument of the wrong kind",
        "A function was called from Python with an argument that is not of the kind that it takes.",
        "cnnc.load(5), or cnnc.compile('resnet.cnn')",
        "The message says what is needed.",
    ),
    # ------------------------------------------------------------------------------------------- E08xx: options
    "E0801": Code(
        "unknown pass or stage",
        "There is no pass of this name, or it did not run.",
        "cnnc opt g.ir --passes fuse-epilogs",
        "The message lists the names.",
    ),
    "E0802": Code(
        "option that a pass does not have",
        "The pass has no such option, or the value is of the wrong kind.",
        "cnnc opt g.ir --passes 'fuse-epilogues{most=2}'",
        "The message lists the options.",
    ),
    "E0803": Code(
        "pass list that cannot be read",
        "Passes are separated by commas, their options stand in braces.",
        "cnnc opt g.ir --passes 'a b'",
        "Write: fold-batchnorm,fuse-epilogues{max=2}",
    ),
    "E0804": Code(
        "pass that changed the result",
        "With --verify-passes the reference ran before and after the pass, and the results differ. This is a mistake in cnnc.",
        "cnnc ir m.cnn --verify-passes",
        "Report it with the model; leave the pass out until then.",
    ),
    "E0805": Code(
        "pass that left a broken graph",
        "The graph after the pass is not well formed. This is a mistake in cnnc.",
        "cnnc ir m.cnn --verify-passes",
        "Report it with the file that the message names: it holds the graph before the pass.",
    ),
    "E0806": Code(
        "output that the loss does not take",
        "Cross-entropy works on logits [N, classes] before any softmax or sigmoid, whatever stands behind that.",
        "model m() { input x: f32[N, 8]  return x -> linear(3) -> softmax }",
        "Return the logits; `cnnc run` applies softmax for the table.",
    ),
    "E0807": Code(
        "op without a gradient",
        "The network cannot be trained through this op.",
        "cnnc gradcheck m.cnn",
        "Freeze what comes before it, or use another layer.",
    ),
    "E0808": Code(
        "training options that are wrong",
        "The optimizer or loss is unknown, or its settings contradict each other.",
        "cnnc.sgd(lr=0.1, nesterov=True)",
        "The message says what is needed.",
    ),
    "E0809": Code(
        "target that is not available",
        "The target is unknown, or this machine cannot run it.",
        "cnnc compile m.cnn --target cuda",
        "`cnnc doctor` says what is missing.",
    ),
    "E0810": Code(
        "unknown engine",
        "`cnnc bench` compares with programs that it knows, and there is none of this name.",
        "cnnc bench m.cnn --against onxruntime",
        "The message lists the names.",
    ),
    "E0811": Code(
        "engines that disagree",
        "Before anything is timed, all engines compute the same thing, and one of them differs by more than rounding "
        "explains: times of different results are not compared.",
        "cnnc bench m.cnn --against torch",
        "Report it with the model; leave the engine out with --against until then.",
    ),
    "E0812": Code(
        "kernels that cannot be compiled here",
        "Numba is told not to compile, or cannot be imported, in this process, and no process of Python could be started "
        "that would do it instead.",
        "NUMBA_DISABLE_JIT=1 in a program that embeds Python",
        "Leave the setting out, or compile the kernels once with `cnnc cache warm`.",
    ),
    "E0820": Code(
        "output that would not be trained",
        "The loss is of the first output. Another output has parameters of its own on its way, which nothing would train.",
        "model m() { input x: f32[N, 8]  a = x -> linear(3)  b = x -> linear(3)  return a, b }",
        "Return the other output from a model of its own, or make one output of both.",
    ),
    "E0830": Code(
        "value that the network does not have",
        "A value was asked for, or a gradient by it, and no input, layer or parameter has its name.",
        'net.trace(x, names=["conv"])',
        "`cnnc ir` prints the names; the message has the nearest.",
    ),
    "E0831": Code(
        "layer whose name cannot be registered",
        "`cnnc.register_layer` adds layers of new names: letters, digits and _, and no words of the language.",
        'cnnc.register_layer(cnnc.Layer(name="relu", ...))',
        "Choose another name, or give replace=True.",
    ),
    "E0832": Code(
        "layer that this process does not have",
        "A pickled network has a layer for one of its parameters that a program registered, and this one has not.",
        "pickle.load(file)  # of a network with act=my_layer",
        "Import the module that registers the layer first.",
    ),
}
