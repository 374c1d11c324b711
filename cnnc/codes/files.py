"""Files, weights and data that cannot be read, written or used. The examples are shell or Python lines."""

from __future__ import annotations

from cnnc.codes.entry import Code

FILES: dict[str, Code] = {
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
    "E0604": Code(
        "file of another kind",
        "The file was recognized, by its first bytes or its name, and is not what is wanted there: a model of another "
        "program, weights in place of a model, an image in place of data.",
        "cnnc check resnet.onnx",
        "The message says what the file is and what can be done with it.",
    ),
    "E0608": Code(
        "artifact that does not fit",
        "The artifact was compiled for another machine or version.",
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
        "Names or shapes differ between the file and the network; each difference is listed, and what names are like.",
        "cnnc run resnet.cnn -p depth=18 --weights resnet50.safetensors --input dog.jpg",
        "Set the parameters of the model as they were when the weights were made; --map before=after maps how names begin.",
    ),
    "E0612": Code(
        "pickle",
        "Reading a pickle (.pth, .pt, .pkl, CIFAR for Python) can run any program, so it is refused.",
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
        "The number of pixels is limited to 2^26, so that a small file cannot fill the memory. CNNC_MAX_PIXELS sets "
        "another limit.",
        "cnnc run lenet5.cnn --input bomb.png",
        "Make it smaller, or let it in with CNNC_MAX_PIXELS.",
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
        "A data set is a .npz file with images and labels, a folder with a folder of images for each class, or the "
        "unpacked files of MNIST or of CIFAR's binary version.",
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
        "loss that is not finite, or grows without end",
        "The loss became NaN or infinite, or a hundred times what it was at first (a thousand times within an epoch): the "
        "learning rate is too large, or the data holds such values.",
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
    "E0645": Code(
        "run folder that is taken",
        "The folder holds a run already, and training would replace its weights.",
        "cnnc train lenet5.cnn --data digits.npz --out runs/digits, twice",
        "Go on with the run (--resume), replace it (--force), or name another folder (--out).",
    ),
    "W0601": Code(
        "classes that are not tested",
        "The data has no part to test on, so a tenth of it is held out, of each class its share. Of the named classes "
        "nothing is: they are trained, but how well they are told apart is not known.",
        "cnnc train lenet5.cnn --data photos/, with a class of one image",
        "Add images, or give a part to test on.",
    ),
    "W0602": Code(
        "files that are passed over",
        "Not all that lies in the folder is read: other kinds of files, folders without images, images that are in no "
        "folder of a class. Hidden names, and what systems leave behind, are passed over without a word.",
        "cnnc train lenet5.cnn --data photos/, with a readme.txt in it",
        "Convert what should be read: PNG, JPEG, BMP and WebP are.",
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
    "E0653": Code(
        "ONNX model that uses what is not read",
        "An operator, or a form of one, has no layer or op here. Operators that are unknown are listed all at once.",
        "cnnc run net.onnx, which has a Loop in it",
        "Export the network in another form: for inference, with fixed sizes, simplified.",
    ),
    "E0654": Code(
        "damaged ONNX model",
        "The file is no valid ONNX model, or of operators older than version 6.",
        "cnnc summary half.onnx",
        "Fetch or export it again.",
    ),
    "E0655": Code(
        "sizes of an ONNX model's inputs",
        "The model leaves sizes of an input open other than the batch, or other sizes were given than it has.",
        "cnnc run detector.onnx --input street.png",
        "Give them: --input-shape image=1,3,640,640, or shapes={...} in Python.",
    ),
    "E0656": Code(
        "tensors outside of an ONNX file",
        "A model may keep tensors in files beside it. They are read only where that is allowed, and only from the "
        "model's own folder.",
        "cnnc run large.onnx",
        "Allow it with --external-data where you trust the file.",
    ),
    # ------------------------------------------------------------------------------------------- W06xx: training
    "W0641": Code(
        "classes without images",
        "The network tells more classes apart than the training data has. It learns never to answer the others.",
        "cnnc train resnet.cnn --data photos, with 1,000 outputs and 3 folders",
        "Set the number of classes of the model: -p classes=3.",
    ),
    "W0642": Code(
        "labels that are all alike",
        "All images are of one class, and nothing can be learned from that.",
        "np.savez('data.npz', x=images, y=np.zeros(len(images), int))",
        "Check the labels.",
    ),
    "W0643": Code(
        "values of a size that is not meant",
        "Bytes are pixels and are divided by 255; floats are taken as they are. The values look as if the other was meant, "
        "or are all the same.",
        "np.savez('data.npz', x=images.astype(np.float32), y=labels), with pixels of 0 to 255",
        "Save pixels as bytes, and other values as floats.",
    ),
    "W0644": Code(
        "batch norm over one image",
        "A batch of one image is normalized by its own mean and variance, which differ from those that predictions are made "
        "with.",
        "cnnc train resnet.cnn --data photos --set batch=1",
        "Take larger batches.",
    ),
    "W0645": Code(
        "one batch that holds all images",
        "An epoch is a single step, so the recipe's epochs are few steps in all.",
        "cnnc train lenet5.cnn --data ten_images.npz --set batch=64",
        "Take smaller batches, or more epochs.",
    ),
    "W0646": Code(
        "loss that grows",
        "After an epoch the loss is more than twice what guessing gives.",
        "cnnc train lenet5.cnn --data digits.npz --set optimizer.lr=10",
        "Use a smaller learning rate.",
    ),
    "W0648": Code(
        "nothing to train",
        "Every parameter is frozen. Running statistics of batch norms may still move.",
        "cnnc train lenet5.cnn --data digits.npz --set 'freeze=[\"*\"]'",
        "Freeze fewer parameters.",
    ),
    "W0649": Code(
        "frozen batch norms whose statistics move",
        "Freezing keeps the weights of a batch norm. Its running mean and variance still follow the batches, as in PyTorch, "
        "so that what the network predicts changes. With `freeze_statistics` they stay, and the batch norm normalizes by "
        "them in training too.",
        "cnnc train resnet.cnn --data photos --set 'freeze=[\"layer1.*\"]'",
        "--set 'freeze_statistics=[\"layer1.*\"]'",
    ),
    "W0647": Code(
        "network that guesses",
        "At the end of a run the network is right no more often than one that always answers the most frequent class.",
        "cnnc train lenet5.cnn --data digits.npz --set optimizer.lr=1e-9",
        "Try other learning rates and more epochs, and look at images and labels.",
    ),
}
