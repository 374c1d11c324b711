"""The corpus of malformed model files: the example of every code, files by hand, and mutations of the examples.

`python -m tests.malformed.corpus FOLDER` writes it as files.
"""

from __future__ import annotations

import sys
from pathlib import Path

from cnnc.codes import CODES
from tests.malformed.mutate import mutate, mutate_values

EXAMPLES = Path(__file__).parents[2] / "examples"
HEAD = "model m() {\n    input x: f32[N, 3, 32, 32]\n"
LARGE = 45_000  # lexemes: nearly as many as a file may have


def by_code() -> dict[str, bytes]:
    """The example of every code that the text of a model can give."""
    return {
        code: entry.example.encode()
        for code, entry in CODES.items()
        if code[:3] in ("E01", "E02", "E03", "E04") and code not in ("E0105", "E0106", "E0204", "E0401", "E0410")
    }


def by_hand() -> dict[str, bytes]:
    """Files that have the shape of an attack or of an accident."""
    texts = {
        "empty": "",
        "blank": " \n\t\n",
        "comment": "# nothing\n",
        "only_train": "train { epochs = 3 }\n",
        "only_block": "block b(x) { return x }\n",
        "one_brace": "{",
        "closing": "}" * 500,
        "opening": "(" * 5000,
        "mixed": "([{" * 30 + ")]}" * 30,
        "quotes": '"' * 999,
        "semicolons": ";" * 999,
        "dots": "." * 999,
        "arrows": "->" * 999,
        "as": "as " * 999,
        "keywords": "model block train input for if else return " * 20,
        "cut_in_model": HEAD,
        "cut_in_call": HEAD + "    return x -> conv(",
        "cut_in_text": HEAD + '    return x -> conv(8, 3, padding="sa',
        "cut_in_label": HEAD + "    return x -> relu as",
        "cut_after_arrow": HEAD + "    return x ->",
        "cut_after_else": HEAD + "    if true { } else",
        "label_of_braces": HEAD + "    return x -> relu as " + "{1}" * 5000 + "}",
        "label_unclosed": HEAD + "    return x -> relu as a{1\n}",
        "label_of_label": HEAD + "    return x -> relu as a{x as b}\n}",
        "label_dots": HEAD + "    return x -> relu as a..b\n}",
        "label_number": HEAD + "    return x -> relu as a{0.5}\n}",
        "label_tensor": HEAD + "    return x -> relu as a{x}\n}",
        "deep_blocks": HEAD + "if true {" * 70 + "}" * 70 + "return x }",
        "deep_lists": HEAD + "y = " + "[" * 63 + "1" + "]" * 63 + " return y }",
        "many_minus": HEAD + "y = " + "-" * LARGE + "1 return x }",
        "many_nots": HEAD + "y = " + "not " * LARGE + "true return x }",
        "many_powers": HEAD + "y = 1" + " ** 1" * (LARGE // 2) + " return x }",
        "many_choices": HEAD + "y = " + "true ? 1 : " * (LARGE // 4) + "2 return x }",
        "many_indices": HEAD + "y = x" + "[0]" * (LARGE // 3) + " return x }",
        "many_calls": HEAD + "y = x" + "()" * (LARGE // 2) + " return x }",
        "many_attributes": HEAD + "y = x" + ".a" * (LARGE // 2) + " return x }",
        "many_items": HEAD + "y = [1" + ",1" * (LARGE // 2) + "] return x }",
        "many_keys": HEAD + "y = {1: 1" + ", 1: 1" * (LARGE // 4) + "} return x }",
        "many_pipes": HEAD + "return x" + " -> relu" * (LARGE // 2) + "}",
        "many_errors": HEAD + "a =\n" * (LARGE // 2) + "return x }",
        "many_consts": "const A = 1\n" * (LARGE // 4),
        "many_words": "a " * LARGE * 2,
        "many_targets": HEAD + "a" + ", a" * (LARGE // 2) + " = x\nreturn x }",
        "many_inputs": HEAD + "input x: f32[N, 1]\n" * (LARGE // 9) + "return x }",
        "many_parameters": "model m(" + "a, " * (LARGE // 2) + ") { }",
        "many_bad_signs": "$" * 500_000,
        "long_name": HEAD + "y = " + "a" * 500_000 + " return x }",
        "long_text": HEAD + 'y = "' + "a" * 500_000 + '" + 1 return x }',
        "long_number": HEAD + "y = " + "9" * 500_000 + " return x }",
        "long_exponent": HEAD + "y = 1e" + "9" * 300 + " return x }",
        "power_tower": HEAD + "y = 9 ** 9 ** 9 ** 9 return x }",
        "doubling": HEAD + "y = [1]\nfor i in 0..99999 { y = y + y }\nreturn x }",
        "nesting": HEAD + "y = []\nfor i in 0..99999 { y = [y] }\nreturn x }",
        "branching": HEAD + "y = [1]\nfor i in 0..99999 { y = [y, y] }\nreturn x }",
        "text_times": HEAD + 'y = "ab" * 10 ** 15 return x }',
        "squaring": HEAD + "y = 3\nfor i in 0..99999 { y = y * y }\nreturn x }",
        "loops": HEAD + "for i in 0..99999 { for j in 0..99999 { } }\nreturn x }",
        "long_loop": HEAD + "for i in 0..10 ** 18 { }\nreturn x }",
        "backward": HEAD + "for i in 10 ** 18..0 { }\nfor i in 0.5..2 { }\nreturn x }",
        "fork": "block f(x, n) { return n == 0 ? x : (x -> f(n - 1)) + (x -> f(n - 1)) }\n"
        + HEAD
        + "return x -> f(60) }",
        "ping_pong": "block f(x) { return x -> g }\nblock g(x) { return x -> f }\n" + HEAD + "return x -> f }",
        "layers_in_loops": HEAD + "for i in 0..9999 { for j in 0..9999 { x = x -> relu } }\nreturn x }",
        "wide_names": HEAD + "for i in 0..30000 { x = x -> relu as r{i} }\nreturn x }",
        "huge_linear": HEAD + "return x -> flatten -> linear(2 ** 31 - 1) -> linear(2 ** 31 - 1) }",
        "huge_conv": HEAD + "return x -> conv(2 ** 30, [31, 31]) }",
        "huge_padding": HEAD + "return x -> conv(8, 3, padding=2 ** 31 - 1) }",
        "huge_input": "model m() { input x: f32[N, 2 ** 31] return x }",
        "huge_rank": "model m() { input x: f32[N" + ", 1" * 5000 + "] return x -> relu }",
        "zero_input": "model m() { input x: f32[N, 0, 3, 3] return x }",
        "negative_input": "model m() { input x: f32[N, -3, 3, 3] return x }",
        "batch_twice": "model m() { input x: f32[N, N] return x }",
        "zero_stride": HEAD + "return x -> conv(8, 3, stride=0) }",
        "zero_pool": HEAD + "return x -> maxpool(0) }",
        "zero_groups": HEAD + "return x -> conv(9, 3, groups=0) }",
        "nan": HEAD + "y = 1e308 * 10 - 1e308 * 10 return x }",
        "root": HEAD + "y = (-1) ** 0.5 return x }",
        "modulo": HEAD + "y = 1 % 0 return x }",
        "include_up": 'include "../../../etc/passwd"\n' + HEAD + "return x }",
        "include_root": 'include "/etc/passwd"\n' + HEAD + "return x }",
        "include_nul": 'include "a\0b"\n' + HEAD + "return x }",
        "include_itself": 'include "."\n' + HEAD + "return x }",
        "include_nothing": 'include ""\n' + HEAD + "return x }",
        "model_twice": HEAD + "return x }\n" + HEAD + "return x }",
        "block_without_parameters": "block b() { return 1 }\n" + HEAD + "return x -> b }",
        "return_block": HEAD + "return relu }",
        "return_deep": HEAD + "return [[x]] }",
        "dict_of_dicts": HEAD + "return {a: {b: x}} }",
        "no_body": "model m",
        "nul": HEAD + "return x \0}",
        "bell": HEAD + "return x \a}",
        "bidi": HEAD + "return x # \u202e }\n}",
        "curly_quotes": HEAD + "y = \u201ca\u201d return x }",
        "no_break_space": HEAD + "return\u00a0x }",
        "full_width": HEAD + "return \uff58 }",
        "combining": HEAD + "y\u0301 = 3 return x }",
        "emoji": HEAD + "\U0001f600 }",
        "arabic_digits": HEAD + "y = \u0663 return x }",
        "line_separator": HEAD + "y = 1 \u2028 return x }",
        "form_feed": HEAD + "y = 1 \f return x }",
    }
    files = {name: text.encode() for name, text in texts.items()}
    files |= {
        "latin1": HEAD.encode() + b"# caf\xe9\n return x }",
        "utf16": (HEAD + "return x }").encode("utf-16"),
        "surrogates": b"model m() { \xed\xa0\x80 }",
        "overlong": b"model m() { \xc0\x80 }",
        "binary": bytes(range(256)) * 40,
        "zeros": bytes(4096),
        "two_boms": b"\xef\xbb\xbf\xef\xbb\xbfmodel",
        "too_large": b"#" * (2 << 20),
        "carriage_returns": HEAD.replace("\n", "\r").encode() + b"# \r return unknown }",
        "gzip": b"\x1f\x8b\x08\0\0\0\0\0\0\3" * 9,
    }
    return files


def mutated(count: int = 400) -> dict[str, bytes]:
    """Mutations of the examples; a few of them are still good files."""
    originals = [(p.stem, p.read_text(encoding="utf-8")) for p in sorted(EXAMPLES.glob("*.cnn"))]
    files = {}
    for seed in range(count):
        name, text = originals[seed % len(originals)]
        change = mutate if seed // len(originals) % 2 else mutate_values
        files[f"{name}_{seed:03d}"] = change(text, seed).encode("utf-8", "surrogatepass")
    return files


if __name__ == "__main__":
    folder = Path(sys.argv[1])
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in {**by_code(), **by_hand(), **mutated()}.items():
        (folder / f"{name}.cnn").write_bytes(content)
