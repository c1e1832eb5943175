"""The code on the README and on the pages of docs/ runs, and prints what they say."""

import re
import sys
from pathlib import Path

import pytest

from tests.docs.code_blocks import BLOCK, ROOT, agree, blocks, pages, printed

SLOW = [ROOT / "docs/how-to/curvature.md"]


@pytest.mark.parametrize(
    "page",
    [pytest.param(page, marks=[pytest.mark.slow] if page in SLOW else []) for page in pages()],
    ids=lambda page: str(page.relative_to(ROOT)),
)
def test_each_block_prints_what_the_page_says(page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "my_net", raising=False)  # which a page writes
    for block, found in zip(blocks(page.read_text()), printed(page), strict=True):
        if block.output is not None:
            assert agree(block.output, found), f"line {block.line} prints\n{found}"


def test_outputs_that_differ_are_noticed() -> None:
    assert agree("rate 0.50 True\n", "rate  0.51 True\n")
    assert not agree("rate 0.50 True\n", "rate 0.70 True\n")
    assert not agree("rate 0.50 True\n", "rate 0.50 False\n")
    assert not agree("", "rate\n")


def test_pages_show_outputs_and_no_block_escapes() -> None:
    texts = [page.read_text() for page in pages()]
    assert sum(block.output is not None for text in texts for block in blocks(text)) >= 10
    for text in texts:
        assert len(re.findall(r"^ *```python", text, re.MULTILINE)) == len(BLOCK.findall(text))


@pytest.mark.parametrize("page", sorted((ROOT / "docs").rglob("*.md")), ids=lambda page: str(page.relative_to(ROOT)))
def test_code_that_is_only_shown_is_python(page: Path) -> None:
    for code in re.findall(r"^```py\n(.*?)^```$", page.read_text(), re.DOTALL | re.MULTILINE):
        compile(code, str(page), "exec")


def test_the_example_on_the_first_screen_is_six_lines() -> None:
    _, example = blocks((ROOT / "README.md").read_text())
    assert len(example.code.splitlines()) == 6
    assert example.output is not None
