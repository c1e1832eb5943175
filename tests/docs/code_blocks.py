"""The fenced Python blocks of a page, run one after the other as a reader would, and what they print.

A `python` block is run, and a `text` block right behind it is what it prints. A `py` block is only shown here: it needs
a cluster, or files that are not there. `python -m tests.docs.code_blocks PAGE...` writes what blocks print into pages.
"""

import contextlib
import io
import math
import re
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
BLOCK = re.compile(r"^```python\n(?P<code>.*?)^```\n(?:\n```text\n(?P<output>.*?)^```\n)?", re.DOTALL | re.MULTILINE)

NUMBER = re.compile(r"\d+\.?\d*(?:e[+-]?\d+)?")


@dataclass(frozen=True)
class Block:
    """A block of Python, and what the page says that it prints."""

    code: str
    output: str | None  # None where the page does not say
    line: int  # of its first line in the page


def pages() -> list[Path]:
    """The README and every page of docs/ that has a block to run."""
    found = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
    return [page for page in found if blocks(page.read_text())]


def blocks(text: str) -> list[Block]:
    """The blocks of a page, in its order."""
    return [
        Block(match["code"], match["output"], text[: match.start()].count("\n") + 2) for match in BLOCK.finditer(text)
    ]


def printed(page: Path) -> list[str]:
    """What each block of a page prints, all of them run in one namespace."""
    namespace: dict[str, Any] = {"__name__": "__main__"}
    return [_run(block, page, namespace) for block in blocks(page.read_text())]


def with_outputs(text: str, outputs: list[str]) -> str:
    """A page with other outputs, where it has some."""
    rest = iter(outputs)

    def renewed(match: re.Match[str]) -> str:
        output = next(rest)
        return match[0] if match["output"] is None else f"```python\n{match['code']}```\n\n```text\n{output}```\n"

    return BLOCK.sub(renewed, text)


def agree(expected: str, found: str) -> bool:
    """Whether two outputs have the same words, and numbers within 10 %: rounding differs between processors."""
    expected, found = (" ".join(text.split()) for text in (expected, found))
    pairs = zip(NUMBER.findall(expected), NUMBER.findall(found), strict=False)
    same_words = NUMBER.split(expected) == NUMBER.split(found)
    return same_words and all(math.isclose(float(a), float(b), rel_tol=0.1) for a, b in pairs)


def _run(block: Block, page: Path, namespace: dict[str, Any]) -> str:
    written = io.StringIO()
    code = compile("\n" * (block.line - 1) + block.code, str(page), "exec")  # a traceback names the page's line
    with contextlib.redirect_stdout(written):
        exec(code, namespace)
    return written.getvalue()


if __name__ == "__main__":
    for name in sys.argv[1:]:
        page = Path(name)
        page.write_text(with_outputs(page.read_text(), printed(page)))
