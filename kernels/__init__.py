"""Hand-scheduled kernels, one package per kind of machine. They know nothing of graphs or plans."""
