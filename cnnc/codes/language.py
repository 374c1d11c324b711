"""Mistakes in a model file: its text, its layers, what it means, its bounds; and warnings. The examples are whole files."""

from __future__ import annotations

from cnnc.codes.entry import Code, model

LANGUAGE: dict[str, Code] = {
    # ------------------------------------------------------------------------------------------- E01xx: text
    "E0101": Code(
        "syntax error",
        "The text does not follow the grammar. The message says what was expected, on the line where it is missing.",
        model("y = x -> conv(8, 3) ->\nreturn y"),
        "Write what was expected there. Statements are `name = value`, `input`, `param`, `for`, `if`, `expect` and `return`.",
    ),
    "E0102": Code(
        "bracket without its partner",
        "A bracket is never closed, or closes nothing.",
        model("y = x -> conv(8, 3\nreturn y"),
        "Close it where it belongs.",
    ),
    "E0103": Code(
        "text that is not closed",
        "A text in quotes ends on the line it begins on.",
        model('y = x -> conv(8, 3, padding="same)\nreturn y'),
        'Write the closing ".',
    ),
    "E0104": Code(
        "unexpected character",
        "The character means nothing in a model file, or cannot be seen (control characters, marks that turn the "
        "direction of text).",
        model("y = x -> conv(8, 3);\nreturn y"),
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
        model("return x -> conv(3x, 3)"),
        "For a product write 3 * x.",
    ),
    # ------------------------------------------------------------------------------------------- E02xx: layers
    "E0201": Code(
        "layer on a tensor of the wrong rank",
        "A convolution needs space, [N, C, W], [N, C, H, W] or [N, C, D, H, W], as pooling does.",
        model("return x -> flatten -> conv(8, 3)"),
        "Put convolutions and pooling before flatten.",
    ),
    "E0202": Code(
        "kernel larger than its padded input",
        "No window fits: the output would have no pixels.",
        model("return x -> conv(8, 40)"),
        "Use a smaller kernel, more padding, or less downsampling before.",
    ),
    "E0203": Code(
        "argument that the layer does not take",
        "The value is of the wrong kind or out of range: a size of 0, a text for a number, groups that do not "
        "divide the channels.",
        model("return x -> conv(0, 3)"),
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
        model("y = x -> conv(8, 3)\nreturn x + y"),
        "Bring both to one shape: padding keeps a convolution's size, a 1x1 convolution changes the channels.",
    ),
    "E0206": Code(
        "unknown argument",
        "The layer or block has no argument of this name. Names are PyTorch's.",
        model("return x -> conv(8, kernel=3)"),
        "The message lists the arguments.",
    ),
    "E0207": Code(
        "missing argument",
        "An argument without a default is not given.",
        model("return x -> conv(8)"),
        "Give it, by position or by name.",
    ),
    "E0208": Code(
        "too many arguments, or one twice",
        "There are more arguments than the layer takes, or the same one is given twice.",
        model("return x -> conv(8, 3, kernel_size=5)"),
        "Remove one.",
    ),
    "E0209": Code(
        "expect that does not hold",
        "`expect` states a tensor's type; the tensor has another.",
        model("y = x -> conv(8, 3)\nexpect y: f32[N, 8, 32, 32]\nreturn y"),
        "Correct the layers or the expectation; the help line has the type as it is.",
    ),
    # ------------------------------------------------------------------------------------------- E03xx: meaning
    "E0301": Code(
        "unknown name",
        "Nothing of this name is defined here. A block sees its own parameters and the file's constants, not its "
        "caller's variables.",
        model("return x -> conv(widht, 3)", "", "width = 8"),
        "Correct the spelling, or hand the value to the block as an argument.",
    ),
    "E0302": Code(
        "unknown layer",
        "What follows `->` is a layer, a block, or a variable that holds one.",
        model("return x -> rleu"),
        "The message names the nearest layer. grammars/README.md lists them all.",
    ),
    "E0303": Code(
        "defined twice",
        "Two items, inputs, parameters, keys or settings have one name.",
        model("return x", "const K = 1\nconst K = 2"),
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
        model("return x -> flatten -> linear(classes)", "", "classes"),
        "Set it: -p classes=10.",
    ),
    "E0306": Code(
        "unknown attribute",
        "Tensors have .channels, .height, .width, .depth, .shape, .rank and .batch, as far as their rank goes.",
        model("return x -> conv(x.chanels, 3)"),
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
        model('y = 3 - "a"\nreturn x'),
        "The message says what is needed and what is there.",
    ),
    "E0309": Code(
        "no such index or key",
        "The list is shorter, or the dict has no such key.",
        model("plans = {18: 2, 34: 3}\nreturn x -> conv(plans[depth], 3)", "", "depth = 20"),
        "The note lists the keys.",
    ),
    "E0310": Code(
        "condition that is neither true nor false",
        "`if`, `?`, `and`, `or` and `not` take true or false; a number is no condition.",
        model("if x.channels { x = x -> relu }\nreturn x"),
        "Compare: if x.channels != 0.",
    ),
    "E0311": Code(
        "arithmetic without a result",
        "Division by zero, or an operation whose result is not a number.",
        model("return x -> conv(8 // 0, 3)"),
        "Guard it with a condition.",
    ),
    "E0312": Code(
        "nothing is returned",
        "The body of a model or block ends without a return.",
        model("y = x -> relu"),
        "End it with: return y.",
    ),
    "E0313": Code(
        "include that does not work",
        "An included file lies beside the including one and never above the folder of the file that was asked for;"
        " files may not include each other in a circle.",
        'include "../blocks.cnn"\n\n' + model("return x"),
        "Move the file into the folder, and write its path relative to the including file.",
    ),
    "E0314": Code(
        "name of a layer that is wrong or taken",
        "Names are letters, digits and _ in parts joined by dots. Within a block every name is used once.",
        model("for i in 0..2 { x = x -> conv(3, 3) as conv }\nreturn x"),
        "In a loop, put its variable into the name: as conv{i}.",
    ),
    "E0315": Code(
        "shared layer that does not fit",
        "A layer that is applied twice has the same parameters both times; here they would have another shape.",
        model("same = conv(8, 3)\nreturn x -> same -> same"),
        "Apply it to tensors of the same channels, or make a second layer.",
    ),
    "E0316": Code(
        "constant or activation defined by itself",
        "To know it one would have to know it already.",
        model("return x", "const A = B + 1\nconst B = A"),
        "Break the circle.",
    ),
    "E0317": Code(
        "unpacking into the wrong number of names",
        "`a, b = values` needs as many values as names.",
        model("a, b = [1, 2, 3]\nreturn x"),
        "Index the list, or name all values.",
    ),
    "E0318": Code(
        "calculation with the batch",
        "The batch N is not known at compile time: one compiled network serves every batch.",
        model("return x -> conv(x.batch * 2, 3)"),
        "Use other sizes. In a type, N or x.batch may stand.",
    ),
    "E0319": Code(
        "unknown element type",
        "Types are f32, f64, i32 and i64.",
        "model m() {\n    input x: float[N, 3, 32, 32]\n    return x\n}",
        "Inputs are f32.",
    ),
    "E0320": Code(
        "input or parameter that is out of place",
        "Inputs stand in models, hold f32, and have the batch N for their first size and nowhere else. Parameters hold f32 "
        "and have no batch.",
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
        model("return x -> flatten -> linear(10)") + "\n\ntrain { optimizer = sdg(lr=0.1) }",
        "The message says what is known.",
    ),
    "E0323": Code(
        "output that is no tensor",
        "A model returns a tensor, several, or a dict of them.",
        model("return 3"),
        "Return what a layer gives: return y, or return {logits: y}.",
    ),
    "E0324": Code(
        "activation that is no expression of its value",
        "An activation is an expression of its first parameter, with numbers, operators, where, max, min and layers that "
        "work element by element, in at most 128 functions. Its derivative has at most as many.",
        model("return x -> bent", "activation bent(x) = softmax(x)"),
        "Make it a block, which may hold any layers.",
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
        model("return x -> conv(2 ** 31, 3)"),
        "Use a smaller one.",
    ),
    "E0403": Code(
        "nesting that is too deep",
        "Brackets, and expressions within expressions, nest at most 64 deep.",
        model("return x -> conv(" + "(" * 70 + "8" + ")" * 70 + ", 3)"),
        "Give the inner parts names, or make them blocks.",
    ),
    "E0404": Code(
        "number that is too large",
        "Whole numbers at compile time are below 2^63, others below 1.8e308; beside tensors 0, or from 1.2e-38 to 3.4e38.",
        model("y = 10 ** 10 ** 10\nreturn x"),
        "Use a smaller one.",
    ),
    "E0405": Code(
        "too many layers",
        "A model unfolds to at most 20,000 layers, counted while loops and blocks unfold.",
        model("for i in 0..30000 { x = x -> relu }\nreturn x"),
        "Look for a loop that runs too often, or a block that calls another in a loop.",
    ),
    "E0406": Code(
        "parameters larger than memory",
        "The parameters of the model would not fit into the memory that is free.",
        model("return x -> flatten -> linear(2 ** 30) -> linear(2 ** 30)"),
        "Use smaller layers; pool before flatten.",
    ),
    "E0407": Code(
        "too much to unfold",
        "A loop runs at most 100,000 times, and a model unfolds in at most 1,000,000 steps.",
        model("for i in 0..10 ** 12 { y = i }\nreturn x"),
        "Look for a range that is too long.",
    ),
    "E0408": Code(
        "blocks that call each other too deeply",
        "Blocks call blocks at most 64 deep. A block that calls itself needs a condition that ends it.",
        model("return x -> again", "block again(x) { return x -> again }"),
        "Use a loop.",
    ),
    "E0409": Code(
        "list or text that is too large",
        "Lists and texts at compile time have at most 20,000 items and nest at most 16 deep.",
        model("y = [0] * 10 ** 6\nreturn x"),
        "Calculate the values where they are needed.",
    ),
    "E0410": Code(
        "memory that is not there",
        "The network needs more memory to run than the machine, the container or a limit of the process leaves.",
        "cnnc run vgg.cnn --input photos/ --batch 100000",
        "Use a smaller batch, or allow more memory.",
    ),
    # ------------------------------------------------------------------------------------------- warnings
    "W0101": Code(
        "windows that do not tile their input",
        "The output size (W - F + 2P) / S + 1 is not whole and is rounded down, as PyTorch does; the named rows "
        "and columns are in no window. Padding that is left over, and pixels between windows, are not counted.",
        model("return x -> maxpool(3, stride=3)"),
        "Change stride or padding, or set ceil_mode=true.",
    ),
    "W0102": Code(
        "layer whose result is not used",
        "No output needs it. It is computed by nobody, but its parameters are part of the model.",
        model("y = x -> conv(8, 3)\nreturn x"),
        "Remove it, or return it.",
    ),
    "W0103": Code(
        "statement that is never reached", "It stands after a return.", model("return x\ny = x -> relu"), "Remove it."
    ),
    "W0104": Code(
        "pattern that matches no parameter",
        "A pattern of `freeze` or `groups` matches none of the model's parameters.",
        model("return x -> flatten -> linear(10) as fc") + '\n\ntrain { freeze = ["features.*"] }',
        "Compare with the names that `cnnc summary` prints.",
    ),
    "W0105": Code(
        "input that is not used",
        "No output needs it.",
        "model m() {\n    input x: f32[N, 3, 32, 32]\n    input y: f32[N, 4]\n    return x -> relu\n}",
        "Remove it.",
    ),
    "W0106": Code(
        "parameter that is not used",
        "Nothing in the model or block names the parameter: whatever it is set to changes nothing.",
        model("return x -> flatten -> linear(10)", parameters="width = 64"),
        "Use it, or remove it.",
    ),
}
