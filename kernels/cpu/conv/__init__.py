"""Direct convolution, forward and both gradients."""
