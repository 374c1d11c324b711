"""The table of layers in the language reference, made of the layers' records.

python -m tests.frontend.reference    write it anew, where a record says something else
"""

from __future__ import annotations

from pathlib import Path

from cnnc.manual import layers_table

FILE = Path(__file__).parents[2] / "grammars" / "README.md"
BEGIN, END = "<!-- layers: python -m tests.frontend.reference writes this table -->\n", "\n<!-- end of layers -->"


def parts(text: str) -> tuple[str, str, str]:
    """What a text has before its table, the table, and what it has behind it."""
    before, begin, rest = text.partition(BEGIN)
    table, end, after = rest.partition(END)
    return before + begin, table, end + after


def main() -> None:
    before, _, after = parts(FILE.read_text(encoding="utf-8"))
    FILE.write_text(before + layers_table() + after, encoding="utf-8")


if __name__ == "__main__":
    main()
