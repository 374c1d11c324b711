"""From a graph to a Plan: kernels for nodes, offsets for buffers."""
