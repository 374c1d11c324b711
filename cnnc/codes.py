"""Every error code: what it means, a smallest example, and the way out. `cnnc explain CODE` prints an entry.

Examples of E01xx to E04xx and of warnings are whole model files, and the tests run them; those of other codes are shell
or Python lines.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Code:
    """title: one line. text: what happened and why it is an error. example: what gives the error. fix: the way out."""

    title: str
    text: str
    example: str = ""
    fix: str = ""


def _model(body: str, head: str = "", parameters: str = "") -> str:
    """A model file around a body."""
    lines = "\n".join(f"    {line}" for line in body.splitlines())
    return f"{head}\n\n" * bool(head) + f"model m({parameters}) {{\n    input x: f32[N, 3, 32, 32]\n{lines}\n}}"


CODES: dict[str, Code] = {
    # ------------------------------------------------------------------------------------------- E01xx: text
    "E0101": Code(
        "syntax error",
        "The text does not follow the grammar. The message says what was expected, on the line where it is missing.",
        _model("y = x -> conv(8, 3) ->\nreturn y"),
        "Write what was expected there. Statements are `name = value`, `input`, `for`, `if`, `expect` and `return`.",
    ),
    "E0102": Code(
        "bracket without its partner",
        "A bracket is never closed, or closes nothing.",
        _model("y = x -> conv(8, 3\nreturn y"),
        "Close it where it belongs.",
    ),
    "E0103": Code(
        "text that is not closed",
        "A text in quotes ends on the line it begins on.",
        _model('y = x -> conv(8, 3, padding="same)\nreturn y'),
        'Write the closing ".',
    ),
    "E0104": Code(
        "unexpected character",
        "The character means nothing in a model file, or cannot be seen (control characters, marks that turn the "
        "direction of text).",
        _model("y = x -> conv(8, 3);\nreturn y"),
        "Remove it. Comments begin with #, texts have double quotes, names are letters, digits and _.",
    ),
    "E0105": Code(
        "file that is not UTF-8",
        "Model files are UTF-8 text. The caret shows the first byte that is not.",
        "a model file saved as Latin-1 with an accented letter in a comment",
        "Save the file as UTF-8.",
    ),
    "E0106": Code(
        "file that cannot be read",
        "The model file is not there, is a folder or a device, or may not be read.",
        "cnnc check lenet6.cnn",
        "Check the name and the folder.",
    ),
    "E0107": Code(
        "neither a number nor a name",
        "Names begin with a letter; numbers are decimal: 12, 0.5, 1e-3.",
        _model("return x -> conv(3x, 3)"),
        "For a product write 3 * x.",
    ),
    # ------------------------------------------------------------------------------------------- E02xx: layers
    "E0201": Code(
        "layer on a tensor of the wrong rank",
        "A convolution needs space, [N, C, W], [N, C, H, W] or [N, C, D, H, W]; a linear layer needs [N, features].",
        _model("return x -> linear(10)"),
        "Put flatten before linear, and convolutions before flatten.",
    ),
    "E0202": Code(
        "kernel larger than its padded input",
        "No window fits: the output would have no pixels.",
        _model("return x -> conv(8, 40)"),
        "Use a smaller kernel, more padding, or less downsampling before.",
    ),
    "E0203": Code(
        "argument that the layer does not take",
        "The value is of the wrong kind or out of range: a size of 0, a text for a number, groups that do not "
        "divide the channels.",
        _model("return x -> conv(0, 3)"),
        "The message says what the argument may be. Whole numbers come of `//`, not of `/`.",
    ),
    "E0204": Code(
        "shapes that do not fit",
        "Weights or operands have shapes that the layer cannot use together.",
        'net.weights["fc.weight"] = numpy.zeros((10, 4))',
        "Compare the shapes in the notes.",
    ),
    "E0205": Code(
        "tensors that do not combine",
        "Addition, concatenation and the like need the same sizes on every axis, or 1 where values repeat.",
        _model("y = x -> conv(8, 3)\nreturn x + y"),
        "Bring both to one shape: padding keeps a convolution's size, a 1x1 convolution changes the channels.",
    ),
    "E0206": Code(
        "unknown argument",
        "The layer or block has no argument of this name. Names are PyTorch's.",
        _model("return x -> conv(8, kernel=3)"),
        "The message lists the arguments.",
    ),
    "E0207": Code(
        "missing argument",
        "An argument without a default is not given.",
        _model("return x -> conv(8)"),
        "Give it, by position or by name.",
    ),
    "E0208": Code(
        "too many arguments, or one twice",
        "There are more arguments than the layer takes, or the same one is given twice.",
        _model("return x -> conv(8, 3, kernel_size=5)"),
        "Remove one.",
    ),
    "E0209": Code(
        "expect that does not hold",
        "`expect` states a tensor's type; the tensor has another.",
        _model("y = x -> conv(8, 3)\nexpect y: f32[N, 8, 32, 32]\nreturn y"),
        "Correct the layers or the expectation; the help line has the type as it is.",
    ),
    # ------------------------------------------------------------------------------------------- E03xx: meaning
    "E0301": Code(
        "unknown name",
        "Nothing of this name is defined here. A block sees its own parameters and the file's constants, not its "
        "caller's variables.",
        _model("return x -> conv(widht, 3)", "", "width = 8"),
        "Correct the spelling, or hand the value to the block as an argument.",
    ),
    "E0302": Code(
        "unknown layer",
        "What follows `->` is a layer, a block, or a variable that holds one.",
        _model("return x -> rleu"),
        "The message names the nearest layer. grammars/README.md lists them all.",
    ),
    "E0303": Code(
        "defined twice",
        "Two items, inputs, parameters, keys or settings have one name.",
        _model("return x", "const K = 1\nconst K = 2"),
        "Rename or remove one of them.",
    ),
    "E0304": Code(
        "no model, or several",
        "A file holds one model, or `-m name` says which.",
        "const K = 1",
        'Name the model with -m, or in Python model="name".',
    ),
    "E0305": Code(
        "model parameter that does not fit",
        "`-p name=value` names a parameter the model does not have, gives it a value of another kind, or a "
        "parameter without a default is not set.",
        _model("return x -> flatten -> linear(classes)", "", "classes"),
        "Set it: -p classes=10.",
    ),
    "E0306": Code(
        "unknown attribute",
        "Tensors have .channels, .height, .width, .depth, .shape, .rank and .batch, as far as their rank goes.",
        _model("return x -> conv(x.chanels, 3)"),
        "Use one that there is.",
    ),
    "E0307": Code(
        "unknown setting",
        "An input, a recipe or a group has no setting of this name.",
        "model m() {\n    input x: f32[N, 3, 32, 32] { reszie = 40 }\n    return x\n}",
        "The message lists the settings.",
    ),
    "E0308": Code(
        "value of the wrong kind",
        "The operation does not work on values of this kind: a number cannot be indexed, a text cannot be subtracted.",
        _model('y = 3 - "a"\nreturn x'),
        "The message says what is needed and what is there.",
    ),
    "E0309": Code(
        "no such index or key",
        "The list is shorter, or the dict has no such key.",
        _model("plans = {18: 2, 34: 3}\nreturn x -> conv(plans[depth], 3)", "", "depth = 20"),
        "The note lists the keys.",
    ),
    "E0310": Code(
        "condition that is neither true nor false",
        "`if`, `?`, `and`, `or` and `not` take true or false; a number is no condition.",
        _model("if x.channels { x = x -> relu }\nreturn x"),
        "Compare: if x.channels != 0.",
    ),
    "E0311": Code(
        "arithmetic without a result",
        "Division by zero, or an operation whose result is not a number.",
        _model("return x -> conv(8 // 0, 3)"),
        "Guard it with a condition.",
    ),
    "E0312": Code(
        "nothing is returned",
        "The body of a model or block ends without a return.",
        _model("y = x -> relu"),
        "End it with: return y.",
    ),
    "E0313": Code(
        "include that does not work",
        "An included file lies beside the including one and never above the folder of the file that was asked for;"
        " files may not include each other in a circle.",
        'include "../blocks.cnn"\n\n' + _model("return x"),
        "Move the file into the folder, and write its path relative to the including file.",
    ),
    "E0314": Code(
        "name of a layer that is wrong or taken",
        "Names are letters, digits and _ in parts joined by dots. Within a block every name is used once.",
        _model("for i in 0..2 { x = x -> conv(3, 3) as conv }\nreturn x"),
        "In a loop, put its variable into the name: as conv{i}.",
    ),
    "E0315": Code(
        "shared layer that does not fit",
        "A layer that is applied twice has the same parameters both times; here they would have another shape.",
        _model("same = conv(8, 3)\nreturn x -> same -> same"),
        "Apply it to tensors of the same channels, or make a second layer.",
    ),
    "E0316": Code(
        "constant defined by itself",
        "To know the constant one would have to know it already.",
        _model("return x", "const A = B + 1\nconst B = A"),
        "Break the circle.",
    ),
    "E0317": Code(
        "unpacking into the wrong number of names",
        "`a, b = values` needs as many values as names.",
        _model("a, b = [1, 2, 3]\nreturn x"),
        "Index the list, or name all values.",
    ),
    "E0318": Code(
        "calculation with the batch",
        "The batch N is not known at compile time: one compiled network serves every batch.",
        _model("return x -> conv(x.batch * 2, 3)"),
        "Use other sizes. In a type, N or x.batch may stand.",
    ),
    "E0319": Code(
        "unknown element type",
        "Types are f32, f64, i32 and i64.",
        "model m() {\n    input x: float[N, 3, 32, 32]\n    return x\n}",
        "Inputs are f32.",
    ),
    "E0320": Code(
        "input that is out of place",
        "Inputs stand in models, hold f32, and have the batch N for their first size and nowhere else.",
        "model m() {\n    input x: f32[1, 3, 32, 32]\n    return x\n}",
        "Write f32[N, 3, 32, 32].",
    ),
    "E0321": Code(
        "preprocessing that does not fit the input",
        "A setting of an input has a value that images of this size and these channels cannot have.",
        "model m() {\n    input x: f32[N, 3, 32, 32] { mean = [0.5, 0.5] }\n    return x\n}",
        "Give one value, or one for each channel; crop to the input's size.",
    ),
    "E0322": Code(
        "recipe that cannot be followed",
        "A setting of the train block has a value it cannot have.",
        _model("return x -> flatten -> linear(10)") + "\n\ntrain { optimizer = sdg(lr=0.1) }",
        "The message says what is known.",
    ),
    "E0323": Code(
        "output that is no tensor",
        "A model returns a tensor, several, or a dict of them.",
        _model("return 3"),
        "Return what a layer gives: return y, or return {logits: y}.",
    ),
    # ------------------------------------------------------------------------------------------- E04xx: bounds
    "E0401": Code(
        "file that is too large",
        "A model file has at most 1 MiB, 1,048,576 bytes, and 50,000 words and signs.",
        "a model file of 2 MiB",
        "Use loops and blocks; keep data out of the model file.",
    ),
    "E0402": Code(
        "size that is too large",
        "Every size of a tensor is below 2^31.",
        _model("return x -> conv(2 ** 31, 3)"),
        "Use a smaller one.",
    ),
    "E0403": Code(
        "nesting that is too deep",
        "Brackets, and expressions within expressions, nest at most 64 deep.",
        _model("return x -> conv(" + "(" * 70 + "8" + ")" * 70 + ", 3)"),
        "Give the inner parts names, or make them blocks.",
    ),
    "E0404": Code(
        "number that is too large",
        "Whole numbers at compile time are below 2^63, others below 1.8e308.",
        _model("y = 10 ** 10 ** 10\nreturn x"),
        "Use a smaller one.",
    ),
    "E0405": Code(
        "too many layers",
        "A model unfolds to at most 20,000 layers, counted while loops and blocks unfold.",
        _model("for i in 0..30000 { x = x -> relu }\nreturn x"),
        "Look for a loop that runs too often, or a block that calls another in a loop.",
    ),
    "E0406": Code(
        "parameters larger than memory",
        "The parameters of the model would not fit into the memory that is free.",
        _model("return x -> flatten -> linear(2 ** 30) -> linear(2 ** 30)"),
        "Use smaller layers; pool before flatten.",
    ),
    "E0407": Code(
        "too much to unfold",
        "A loop runs at most 100,000 times, and a model unfolds in at most 1,000,000 steps.",
        _model("for i in 0..10 ** 12 { y = i }\nreturn x"),
        "Look for a range that is too long.",
    ),
    "E0408": Code(
        "blocks that call each other too deeply",
        "Blocks call blocks at most 64 deep. A block that calls itself needs a condition that ends it.",
        _model("return x -> again", "block again(x) { return x -> again }"),
        "Use a loop.",
    ),
    "E0409": Code(
        "list or text that is too large",
        "Lists and texts at compile time have at most 20,000 items and nest at most 16 deep.",
        _model("y = [0] * 10 ** 6\nreturn x"),
        "Calculate the values where they are needed.",
    ),
    "E0410": Code(
        "memory that is not there",
        "The system refuses the memory that the network needs to run.",
        "cnnc run vgg.cnn --input photos/ --batch 100000",
        "Use a smaller batch.",
    ),
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
    # ------------------------------------------------------------------------------------------- E06xx: files and data
    "E0601": Code(
        "file that cannot be read or written",
        "The file is not there, is a folder, or may not be touched; nothing was written.",
        "cnnc run lenet5.cnn --weights nothing.safetensors --input seven.png",
        "Check the name, the folder and the permissions.",
    ),
    "E0602": Code(
        "not enough memory",
        "The command needs more memory than there is.",
        "cnnc train vgg.cnn --data photos --set batch=4096",
        "Use a smaller batch.",
    ),
    "E0603": Code(
        "kind of file that cannot be written",
        "The ending of the output's name says what to write, and this one is unknown.",
        "cnnc graph lenet5.cnn -o lenet5.bmp",
        "Use one of the endings in the message.",
    ),
    "E0608": Code(
        "artifact that does not fit",
        "The artifact was compiled for another batch, machine or version.",
        "cnnc run old.cnnx --input x.npy",
        "Compile it again.",
    ),
    "E0610": Code(
        "damaged weights file",
        "The file is no valid safetensors file.",
        "cnnc run lenet5.cnn --weights notes.txt --input seven.png",
        "Fetch or write it again.",
    ),
    "E0611": Code(
        "weights that do not fit the network",
        "Names or shapes differ between the file and the network; each difference is listed.",
        "cnnc run resnet.cnn -p depth=18 --weights resnet50.safetensors --input dog.jpg",
        "Set the parameters of the model as they were when the weights were made.",
    ),
    "E0612": Code(
        "pickle",
        "Reading a pickle (.pth, .pt, .pkl) can run any program, so it is refused.",
        "cnnc run resnet.cnn --weights resnet.pth --input dog.jpg",
        "Convert it once with the line in the message, where you trust it.",
    ),
    "E0613": Code(
        "array that cannot become float32",
        "The values are of a type, or a size, that float32 cannot hold.",
        'net.weights["fc.bias"] = ["a"]',
        "Convert it first.",
    ),
    "E0620": Code(
        "data that cannot be read",
        "The file or folder is not there, or may not be read.",
        "cnnc run lenet5.cnn --input seven.pgn",
        "Check the name.",
    ),
    "E0621": Code(
        "image that cannot be read",
        "PNG, JPEG, BMP and WebP are read, when they are not damaged.",
        "cnnc run lenet5.cnn --input notes.txt",
        "Convert the image.",
    ),
    "E0622": Code(
        "image that is too large",
        "The number of pixels is limited, so that a small file cannot fill the memory.",
        "cnnc run lenet5.cnn --input bomb.png",
        "Make it smaller.",
    ),
    "E0623": Code(
        "image that does not become the input",
        "Preprocessing does not give the channels and pixels that the input takes.",
        "cnnc run mlp.cnn --input seven.png",
        "Correct the settings of the input: resize, crop, channels, mean, std.",
    ),
    "E0624": Code(
        "label names that cannot be used",
        "The labels file is not there, not text, too large, or outside the model's folder.",
        'input x: f32[N, 3, 224, 224] { labels = "names.txt" }',
        "Put a text file with a name a line beside the model.",
    ),
    "E0625": Code(
        "array file that is damaged",
        "A .npy, .npz, IDX or CIFAR file does not hold what its header says.",
        "cnnc train lenet5.cnn --data cut.npz",
        "Fetch or write it again.",
    ),
    "E0626": Code(
        "array file that is too large",
        "The header asks for more than the file or the memory holds.",
        "cnnc run lenet5.cnn --input huge.npy",
        "Split the file.",
    ),
    "E0627": Code(
        "data set of an unknown form",
        "A data set is a .npz file with images and labels, or a folder with a folder of images for each class.",
        "cnnc train lenet5.cnn --data notes.txt",
        "Arrange it in one of these forms.",
    ),
    "E0628": Code(
        "samples that do not fit the input",
        "The arrays have another shape than the input, or not a label for each sample.",
        "cnnc train resnet.cnn --data digits.npz",
        "Compare the shapes in the message.",
    ),
    "E0629": Code(
        "label out of range",
        "Labels are whole numbers from 0 to classes - 1.",
        "cnnc train lenet5.cnn -p classes=5 --data digits.npz",
        "Set the number of classes.",
    ),
    "E0630": Code(
        "empty data set",
        "There is nothing in it to train on.",
        "cnnc train lenet5.cnn --data empty/",
        "Check the folder.",
    ),
    "E0631": Code(
        "augmentation that does not fit",
        "The augmentation is unknown, or its arguments make no sense for images of this size.",
        "train { augment = [random_shift(1000)] }",
        "The message says what is possible.",
    ),
    "E0640": Code(
        "recipe setting that is wrong",
        "`--set` names a setting that is not there or gives it a value it cannot have.",
        "cnnc train lenet5.cnn --data digits.npz --set optimizer.rl=0.1",
        "The message lists the settings.",
    ),
    "E0641": Code(
        "training cannot begin",
        "The network, the recipe and the data do not go together.",
        "cnnc train siamese.cnn --data digits.npz",
        "The message says what is missing.",
    ),
    "E0642": Code(
        "loss that is not finite",
        "The loss became NaN or infinite: the learning rate is too large, or the data holds such values.",
        "cnnc train lenet5.cnn --data digits.npz --set optimizer.lr=1000",
        "Use a smaller learning rate.",
    ),
    "E0643": Code(
        "checkpoint that cannot be resumed",
        "The run folder holds no checkpoint, or one of another network or recipe.",
        "cnnc train vgg.cnn --data photos --out runs/resnet --resume",
        "Start anew without --resume.",
    ),
    "E0644": Code(
        "run folder that cannot be written",
        "The folder of a run cannot be made, or files in it cannot be written.",
        "cnnc train lenet5.cnn --data digits.npz --out /proc/run",
        "Choose another folder with --out.",
    ),
    "E0650": Code(
        "package that is not installed",
        "What was asked for needs a package that cnnc itself does without: onnx for export, PyTorch, ONNX Runtime or "
        "OpenVINO to be compared with.",
        "cnnc export lenet5.cnn -o lenet5.onnx",
        "Install the extra that the message names: pip install 'cnnc[onnx]' or 'cnnc[bench]'.",
    ),
    "E0651": Code(
        "op that cannot be exported",
        "The op has no form in the other program's operators. Ops of training, losses and gradients are not exported.",
        "cnnc export m.cnn -o m.onnx, where m returns a loss",
        "Export the network without it, or write it with other layers.",
    ),
    "E0652": Code(
        "weights too large for an ONNX file",
        "An ONNX file is one message of at most 2 GiB.",
        "cnnc export wide.cnn -o wide.onnx, with 600 million parameters",
        "Export a smaller network.",
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
        "Report it with the model.",
    ),
    "E0806": Code(
        "output that the loss does not take",
        "Cross-entropy works on logits [N, classes] before any softmax.",
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
    # ------------------------------------------------------------------------------------------- warnings
    "W0101": Code(
        "windows that do not tile their input",
        "The output size (W - F + 2P) / S + 1 is not whole and is rounded down, as PyTorch does; the named rows "
        "and columns are in no window. Padding that is left over, and pixels between windows, are not counted.",
        _model("return x -> maxpool(3, stride=3)"),
        "Change stride or padding, or set ceil_mode=true.",
    ),
    "W0102": Code(
        "layer whose result is not used",
        "No output needs it. It is computed by nobody, but its parameters are part of the model.",
        _model("y = x -> conv(8, 3)\nreturn x"),
        "Remove it, or return it.",
    ),
    "W0103": Code(
        "statement that is never reached", "It stands after a return.", _model("return x\ny = x -> relu"), "Remove it."
    ),
    "W0104": Code(
        "pattern that matches no parameter",
        "A pattern of `freeze` or `groups` matches none of the model's parameters.",
        _model("return x -> flatten -> linear(10) as fc") + '\n\ntrain { freeze = ["features.*"] }',
        "Compare with the names that `cnnc summary` prints.",
    ),
    "W0105": Code(
        "input that is not used",
        "No output needs it.",
        "model m() {\n    input x: f32[N, 3, 32, 32]\n    input y: f32[N, 4]\n    return x -> relu\n}",
        "Remove it.",
    ),
}
