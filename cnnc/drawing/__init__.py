"""A network drawn: SVG laid out here, Graphviz DOT, Mermaid."""

from cnnc.drawing.picture import svg
from cnnc.drawing.texts import dot, mermaid

__all__ = ["WRITERS", "dot", "mermaid", "svg"]

WRITERS = {".svg": svg, ".dot": dot, ".mmd": mermaid}
