"""Passes over graphs, the two pipelines, and the way from a network to its training step. Importing this package
registers all passes but those of a target alone.
"""

from cnnc.passes import select_layout  # noqa: F401  (no pipeline has it by itself)
from cnnc.passes.pipelines import inference_pipeline, training_pipeline
from cnnc.passes.training import training_graph

__all__ = ["inference_pipeline", "training_graph", "training_pipeline"]
