"""Maps, layouts, reductions."""
