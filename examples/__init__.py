"""Networks to read, to train and to begin with; they are installed with the package, as `cnnc.examples`."""
