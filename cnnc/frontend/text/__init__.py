"""Text to syntax tree: what is checked before parsing, the parser and its recovery, the tree, the wording of errors."""
