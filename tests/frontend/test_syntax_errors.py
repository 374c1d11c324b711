"""Syntax errors say what was expected, on the line where it is missing, and several are reported in one run."""

from __future__ import annotations

import logging

import pytest

from cnnc.diagnostics import CnncError, Source
from cnnc.frontend.text.tree import parse


def errors(text: str) -> list[tuple[str, int, int, str]]:
    """(code, line, column, message) of each error."""
    with pytest.raises(CnncError) as caught:
        parse(Source("m.cnn", text))
    found = []
    for d in caught.value.diagnostics:
        assert d.span is not None
        found.append((d.code, *d.span.source.position(d.span.start), d.message))
    return found


def body(text: str) -> str:
    return f"model m() {{\n{text}\n}}\n"


# A body, and where its first error is, and what that says.
PLACES = {
    "y =\nreturn y": "2:4 expected a value after '=', but the line ends",
    "y = x ->\nreturn y": "2:9 expected a layer after '->', but the line ends",
    "y = x -> \nz = 3": "2:9 expected a layer after '->', but the line ends",
    "y = 3 +\nz = 4": "2:8 expected a value after '+', but the line ends",
    "y = x -> relu as\nreturn y": "2:17 expected a name such as conv1 or layer{i}.0 after 'as', but the line ends",
    "y = x -> relu as a.{b,c}\nreturn y": "2:22 expected the end of the value after 'b', found ','",
    "return x -> conv(8 3)": "2:20 expected ',' or ')' after '8', found '3'",
    "y = [1, 2 3]": "2:11 expected ',' or ']' after '2', found '3'",
    "y = {1: 2, 3}": "2:13 expected ':' after '3', found '}'",
    "if a = b { }": "2:6 expected '{' after 'a', found '='",
    "if a: return x": "2:5 expected '{' after 'a', found ':'",
    "x -> relu": "2:3 expected ',' or '=' after 'x', found '->'",
    "for = 3": "2:5 expected the loop's variable after 'for', found '='",
    "for in in x { }": "2:5 expected the loop's variable after 'for', found 'in', which is a word of the language",
    "y = return": "2:5 expected a value after '=', found 'return', which is a word of the language",
    "y = .5": "2:5 expected a value after '=', found '.'",
    "input x f32[N]": "2:9 expected ':' after 'x', found 'f32'",
    "input x: f32[N] { resize 3 }": "2:26 expected '=' after 'resize', found '3'",
    "} else {": "2:3 expected include, const, block, model, activation or train after '}', found 'else'",
}


@pytest.mark.parametrize(("text", "said"), PLACES.items())
def test_message_and_place(text: str, said: str) -> None:
    code, line, column, message = errors(body(text))[0]
    assert (code, f"{line}:{column} {message}") == ("E0101", said)


@pytest.mark.parametrize(
    ("text", "help"),
    [
        (body("if a = b { }"), "to compare, write '=='"),
        (body("if a: return x"), "a body is in braces: { ... }"),
        (body("x -> relu"), "give the result a name: x = x -> ..."),
        (body("conv(x, 3)"), "a statement gives its result a name: y = conv(...)"),
        (body("if a { } else return x"), "write 'else { ... }' or 'else if condition { ... }'"),
        (body("// a comment"), "comments begin with '#'"),
        (body("y = .5"), "a number begins with a digit: 0.5"),
        (body("for = 3"), "'for' is a word of the language: choose another name"),
        ("def f(x) { return x }", "a reusable piece is written: block name(x, ...) { ... }"),
        (body("y = 'a'"), 'texts have double quotes: "same"'),
        (body("y = a && b"), "write 'and'"),
        (body("y = 3x"), "a name begins with a letter; a number is written 12, 0.5 or 1e-3"),
    ],
)
def test_hints(text: str, help: str) -> None:
    with pytest.raises(CnncError) as caught:
        parse(Source("m.cnn", text))
    assert caught.value.diagnostics[0].help == help


def test_several_in_one_run() -> None:
    text = """model m() {
    input x: f32[N, 3]
    a =
    b = x -> relu
    c = [1 2]
    if c { d = } else { e = 3 }
    for i in { f = 1 }
    return x -> relu as
}
blok f(x) { return x }
block g(x) { return x -> }
train { epochs 10  batch = 3 }
"""
    assert [(line, column) for _, line, column, _ in errors(text)] == [
        (3, 8),
        (5, 12),
        (6, 16),
        (7, 23),
        (8, 24),
        (10, 1),
        (11, 26),
        (12, 16),
    ]


def test_no_more_than_twenty() -> None:
    assert len(errors(body("a =\n" * 50))) == 20


@pytest.mark.parametrize(
    ("text", "found"),
    [
        (body("return conv(x, 3"), [("E0102", 2, 12)]),
        (body("return x }"), [("E0102", 3, 1)]),
        ("model m() {\n    return x\nblock f(x) { return x }\n", [("E0102", 1, 11)]),
        ("model m() {\n    return x\n", [("E0102", 1, 11)]),
        (body("return [x)"), [("E0102", 2, 10), ("E0102", 2, 8)]),
        (body('y = "abc\nz = 3'), [("E0103", 2, 5)]),
        (body("y = 3x\nz ="), [("E0107", 2, 5), ("E0101", 3, 4)]),
    ],
)
def test_brackets_and_characters(text: str, found: list[tuple[str, int, int]]) -> None:
    assert sorted((line, column, code) for code, line, column, _ in errors(text)) == sorted(
        (line, column, code) for code, line, column in found
    )


def test_whitespace_never_matters() -> None:
    text = "model m() { input x: f32[N, 3] y = x -> relu return y -> linear(3, bias=false) }"
    assert len(parse(Source("m", text)).items) == 1
    for variant in (
        text.replace(" ", "\n"),
        text.replace(" ", "\r\n"),
        text.replace(" ", "\t"),
        text.replace(" ", " # a\n"),
    ):
        assert len(parse(Source("m", variant)).items) == 1


def test_words_begin_names() -> None:
    parse(
        Source(
            "m",
            "model modelx(iffy = 1, trueish = 2, informer = 3, order = 4) "
            "{ input inputs: f32[N, 3] return inputs -> relu as as_1 }",
        )
    )


def test_documentation() -> None:
    item = parse(Source("m", "# not this\n\n## One.\n##   Two.\nblock b(x) { return x }\n")).items[0]
    assert getattr(item, "doc", None) == "One.\nTwo."


def test_grammar_has_no_conflicts() -> None:
    from importlib.resources import files

    from lark import Lark, logger

    records: list[logging.LogRecord] = []

    class Keep(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            records.append(record)

    handler, level = Keep(), logger.level
    logger.addHandler(handler)
    logger.setLevel(logging.DEBUG)
    try:
        Lark(
            files("cnnc.grammars").joinpath("cnn.lark").read_text(),
            parser="lalr",
            start=["start", "expression"],
            debug=True,
        )
    finally:
        logger.removeHandler(handler)
        logger.setLevel(level)
    assert [r.getMessage() for r in records if "onflict" in r.getMessage()] == []
