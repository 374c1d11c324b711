"""Text -> Lark's tree: an LALR parser, with recovery so that one run reports several syntax errors.

After an error the parser's stack is taken back to the list of statements (or items, or settings) that the error is in,
and parsing goes on at the next thing that can only begin one.
"""

from __future__ import annotations

from collections.abc import Collection
from functools import cache
from typing import TYPE_CHECKING, Any, Literal

from cnnc import storage
from cnnc.diagnostics import LIMIT, CnncError, Diagnostic, Source
from cnnc.frontend.text.expected import describe
from cnnc.frontend.text.scan import LEXEME, Scan, scan, sync_points

if TYPE_CHECKING:
    from lark import Lark, Token, Tree


@cache
def grammar() -> Lark:
    """The parser of `grammars/cnn.lark`, made on first use."""
    return storage.grammar("cnn.lark", start=["start", "expression"])


def tree_of(source: Source, start: Literal["start", "expression"]) -> Tree[Token]:
    """Lark's tree of a file or of one expression. Raises `CnncError` with up to 20 errors (E01xx, E0401, E0403)."""
    checked = scan(source)
    diagnostics = checked.diagnostics
    tree = None
    if checked.balanced:
        lines = {source.position(d.span.start)[0] for d in diagnostics if d.span}
        tree, errors = _Parsing(checked, start).run()
        diagnostics += [e for e in errors if e.span and source.position(e.span.start)[0] not in lines]
    if diagnostics or tree is None:
        raise CnncError(sorted(diagnostics, key=lambda d: d.span.start if d.span else 0)[:LIMIT])
    return tree


class _Parsing:
    """One parse of one text."""

    def __init__(self, checked: Scan, start: str) -> None:
        self.checked = checked
        self.parser: Any = grammar().parse_interactive(checked.text, start=start)
        self.errors: list[Diagnostic] = []
        self.table: dict[int, dict[str, tuple[Any, Any]]] = self.parser.parser_state.parse_conf.parse_table.states

    def run(self) -> tuple[Tree[Token] | None, list[Diagnostic]]:
        from lark import UnexpectedCharacters, UnexpectedToken

        state = self.parser.parser_state
        thread = self.parser.lexer_thread
        last: Token | None = None
        before: Token | None = None
        while True:
            try:
                for token in thread.lex(state):
                    state.feed_token(token)
                    before, last = last, token
                tree = self.parser.feed_eof(last)
                return (None if self.errors else tree), self.errors
            except UnexpectedToken as e:
                at = e.token.start_pos if e.token.type != "$END" else None
            except UnexpectedCharacters as e:
                at = e.pos_in_stream
            offset = len(self.checked.text) if at is None else at
            lexeme = LEXEME.match(self.checked.text, offset)
            text = lexeme[0] if lexeme is not None else ""
            if text == "=" and last is not None and before is not None and self._begins_line(before, last):
                offset, text, last = last.start_pos or 0, str(last), before
                accepts: Collection[str] = {"->": ("NAME",), "as": ("LABEL",)}.get(str(before), ("NAME", "NUMBER"))
            else:
                accepts = self.parser.accepts()
            self.errors.append(describe(self.checked.source, last, text, offset, accepts))
            if len(self.errors) >= LIMIT or not self._recover(offset):
                return None, self.errors
            last = before = None

    def _begins_line(self, before: Token, name: Token) -> bool:
        """Whether a name that was taken for a value after an operator in fact begins the next line's assignment."""
        operators = ("ARROW", "PLUS", "MINUS", "TIMES", "POWER", "COMPARE", "EQUAL", "AND", "OR", "NOT", "AS")
        return (
            name.type in ("NAME", "LABEL")
            and before.type in operators
            and "\n" in self.checked.text[before.end_pos : name.start_pos]
        )

    def _shifts(self, state: int, *terminals: str) -> bool:
        actions = self.table[state]
        return all(t in actions and actions[t][0].name == "Shift" for t in terminals)

    def _recover(self, offset: int) -> bool:
        """Take the stack back to a list that the next sync point continues. False: nothing follows."""
        state = self.parser.parser_state
        stack, values = state.state_stack, state.value_stack
        level, kind, opened = 0, "item", -1
        for i in reversed(range(len(stack))):
            if self._shifts(stack[i], "RBRACE", "NAME") and not self._shifts(stack[i], "NUMBER"):
                level, kind = i, "statement" if self._shifts(stack[i], "RETURN") else "setting"
                opened = max(v.start_pos for v in values[:i] if getattr(v, "type", "") == "LBRACE")
                break
            if self._shifts(stack[i], "MODEL", "BLOCK"):
                level = i
                break
        else:
            return False
        if kind == "item":
            end, depth = len(self.checked.text), 0
        else:
            end, depth = self.checked.brackets[opened] + 1, self.checked.depth(opened) + 1
        refused_here = stack[-1] == stack[level]
        for point, at in sync_points(self.checked, offset, end, depth):
            if kind == "item" and point != "item":
                continue
            if at > offset or (not refused_here and (kind != "setting" or point == "close")):
                break
        else:
            return False
        del stack[level + 1 :]
        del values[level:]
        counter = self.parser.lexer_thread.state.line_ctr
        counter.char_pos = at
        line, column = self.checked.source.position(at)
        counter.line, counter.column, counter.line_start_pos = line, column, at - column + 1
        return True
