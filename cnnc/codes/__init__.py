"""Every error code: what it means, a smallest example, and the way out. `cnnc explain CODE` prints an entry.

Examples of E01xx to E04xx and of warnings are whole model files, and the tests run them; those of other codes are shell
or Python lines.
"""

from __future__ import annotations

from cnnc.codes.compiling import COMPILING
from cnnc.codes.entry import Code
from cnnc.codes.files import FILES
from cnnc.codes.language import LANGUAGE

CODES: dict[str, Code] = dict(sorted((LANGUAGE | FILES | COMPILING).items()))
__all__ = ["CODES", "Code"]
