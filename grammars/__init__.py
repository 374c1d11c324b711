"""The grammars of the `.cnn` language and of the IR's text, loaded with `Lark.open_from_package("cnnc.grammars", ...)`."""
