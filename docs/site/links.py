"""Pages of the site for what lies outside docs/: the README is its first page, and what pages link to is shown.

On GitHub the pages link to files of the repository (`../config.yaml`). On the site such a file becomes a page too, so
that no link leads out of it: Markdown and notebooks as they read, a folder as its README or the list of its files,
other text as code.
"""

import json
import os
import re
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import Any

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

ALWAYS = ("README.md", "CHANGELOG.md", "CONTRIBUTING.md", "results/README.md")
LANGUAGES = {".py": "python", ".yaml": "yaml", ".yml": "yaml", ".sh": "bash", ".smk": "python", ".toml": "toml"}
FENCED = re.compile(r"^ *(`{3,}|~{3,}).*?^ *\1 *$", re.DOTALL | re.MULTILINE)
LINK = re.compile(r'(?P<before>\]\(|\b(?:src|href)=")(?P<path>[^)#"\s:]+)(?P<anchor>#[^)"\s]*)?(?P<after>[)"])')


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add a page for each file of the repository that a page links to, and for those that these link to."""
    root = Path(config.config_file_path).parent
    pending = [path for path in ALWAYS if (root / path).exists()]
    pending += [f"docs/{file.src_uri}" for file in files.documentation_pages()]
    seen: set[str] = set()
    while pending:
        path = pending.pop()
        if path in seen:
            continue
        seen.add(path)
        if path.startswith("docs/"):
            text = (root / path).read_text() if path.endswith(".md") else ""
        else:
            text = _page_of(root, path)
            files.append(File.generated(config, _uri(root, path), content=text))
        pending += _linked(root, path, text)
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Let links that lead to a file of the repository lead to its page."""
    root = Path(config.config_file_path).parent
    path = _path(root, page.file.src_uri)

    def replaced(match: re.Match[str]) -> str:
        target = _target(root, path, match)
        if target is None:
            return match[0]  # which mkdocs reports if it leads nowhere
        uri = os.path.relpath(_uri(root, target), PurePosixPath(page.file.src_uri).parent)
        return f"{match['before']}{uri}{match['anchor'] or ''}{match['after']}"

    parts, end = [], 0
    for block in FENCED.finditer(markdown):
        parts += [LINK.sub(replaced, markdown[end : block.start()]), block[0]]
        end = block.end()
    return "".join([*parts, LINK.sub(replaced, markdown[end:])])


def _page_of(root: Path, path: str) -> str:
    place = root / path
    if place.is_dir():
        names = sorted(entry.name for entry in place.iterdir() if entry.is_file() and not entry.name.startswith("."))
        return f"# {path}\n\n" + "".join(f"- `{name}`\n" for name in names)
    if place.suffix == ".md":
        return place.read_text()
    if place.suffix == ".ipynb":
        return "\n\n".join(map(_cell, json.loads(place.read_text())["cells"]))
    return f"# {path}\n\n````{LANGUAGES.get(place.suffix, 'text')}\n{place.read_text().rstrip()}\n````\n"


def _cell(cell: dict[str, Any]) -> str:
    """A cell of a notebook, with what it printed and drew."""
    source = "".join(cell["source"])
    if cell["cell_type"] == "markdown":
        return source
    parts = [f"```python\n{source}\n```"]
    for output in cell["outputs"]:
        if "text" in output:
            parts.append(f"```text\n{''.join(output['text'])}```")
        elif picture := output.get("data", {}).get("image/png"):
            parts.append(f'<img alt="" src="data:image/png;base64,{"".join(picture.split())}">')
    return "\n\n".join(parts)


def _linked(root: Path, path: str, text: str) -> Iterator[str]:
    for match in LINK.finditer(FENCED.sub("", text)):
        if target := _target(root, path, match):
            yield target


def _target(root: Path, path: str, match: re.Match[str]) -> str | None:
    """The path in the repository that a link of the file at `path` leads to, if there is such a file."""
    target = os.path.normpath(os.path.join(os.path.dirname(path), match["path"])).replace(os.sep, "/")
    if target.startswith("..") or not (root / target).exists():
        return None
    return f"{target}/README.md" if (root / target / "README.md").exists() else target


def _uri(root: Path, path: str) -> str:
    """Where the page of a file of the repository is among the pages of the site."""
    if path.startswith("docs/"):
        return path.removeprefix("docs/")
    return path if path.endswith(".md") else f"{path}.md"


def _path(root: Path, uri: str) -> str:
    """The inverse of `_uri`."""
    if (root / "docs" / uri).exists():
        return f"docs/{uri}"
    return uri if (root / uri).exists() else uri.removesuffix(".md")
