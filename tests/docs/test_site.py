"""The documentation as a site: it builds strictly, fetches nothing, leads nowhere wrong and has every public name."""

import re
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote

import pytest
import yaml

import fishertail
from fishertail.paper.claims.claim import claims
from tests.docs.code_blocks import ROOT

FETCHING = {"src", "srcset", "data", "poster"}  # attributes whose address a browser fetches by itself


class Links(HTMLParser):
    """What a page links to, what it fetches, and its anchors."""

    def __init__(self, page: Path):
        super().__init__()
        self.links: list[str] = []
        self.fetched: list[str] = []
        self.anchors: set[str] = set()
        self.feed(page.read_text())

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        for name, value in attrs:
            if name == "id" and value:
                self.anchors.add(value)
            elif name in FETCHING or (tag == "link" and name == "href"):
                self.fetched.append(value or "")
            elif tag == "a" and name == "href":
                self.links.append(value or "")


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    pytest.importorskip("mkdocs")
    folder = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", str(folder)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stdout + done.stderr
    return folder


@pytest.fixture(scope="module")
def pages(site: Path) -> dict[Path, Links]:
    return {page: Links(page) for page in site.rglob("*.html") if page.name != "404.html"}


def test_nothing_is_fetched_from_elsewhere(site: Path, pages: dict[Path, Links]) -> None:
    for page, found in pages.items():
        assert found.fetched
        for address in found.fetched:
            assert address.startswith("data:") or (page.parent / address).exists(), (page.name, address)
    for style in site.rglob("*.css"):
        assert not re.search(r"(url\(|@import)\s*[\"']?(https?:)?//", style.read_text()), style
    assert not any("mermaid" in page.read_text() for page in pages)  # for it the theme would fetch a script


def test_links_lead_to_pages_and_anchors(pages: dict[Path, Links]) -> None:
    inner = 0
    for page, found in pages.items():
        for link in found.links:
            if link.startswith("https://"):
                continue
            path, _, anchor = unquote(link).partition("#")
            target = (page.parent / path).resolve() if path else page
            assert target.exists(), (page.name, link)
            inner += 1
            if anchor and target in pages:
                assert anchor in pages[target].anchors or anchor.startswith("__"), (page.name, link)
    assert inner > 1000


def test_every_public_name_is_on_the_api_page(site: Path, pages: dict[Path, Links]) -> None:
    errors = {f"errors.{name}" for name, each in vars(fishertail.errors).items() if isinstance(each, type)}
    assert {f"fishertail.{name}" for name in errors | {*fishertail.__all__}} <= pages[site / "api.html"].anchors


def test_shapes_behind_fields_are_on_the_api_page(site: Path) -> None:
    text = (site / "api.html").read_text()
    assert "(N, L)" in text


def test_formulas_and_the_graph_are_drawn_when_the_site_is_built(site: Path) -> None:
    assert (site / "concepts.html").read_text().count("<math") >= 2
    assert "arithmatex" not in (site / "concepts.html").read_text()
    graph = re.search(r"^flowchart LR\n(.*?)^```$", (ROOT / "docs/workflow.md").read_text(), re.DOTALL | re.MULTILINE)
    drawing = re.search(r'<div class="rule-graph"><svg.*?</svg>', (site / "workflow.html").read_text(), re.DOTALL)
    assert graph
    assert drawing
    rules = set(re.findall(r"\w+", graph[1]))
    drawn = re.findall(r"<rect [^>]*>((?:<text[^>]*>\w+</text>)+)", drawing[0])
    assert {"".join(re.findall(r">(\w+)<", texts)) for texts in drawn} == rules
    heads = re.findall(r'd="[^"]*L[^"]*"', drawing[0])
    assert len(heads) == graph[1].count(" --> ") + graph[1].count(" & ")


def test_every_page_of_the_folder_is_in_the_navigation() -> None:
    configuration = (ROOT / "mkdocs.yml").read_text()
    named = set(re.findall(r"[\w/-]+\.md", configuration))
    named |= {f"reproduction/claims/{number}.md" for number in claims()}  # by docs/site/navigation.py
    assert {str(page.relative_to(ROOT / "docs")) for page in (ROOT / "docs").rglob("*.md")} <= named
    assert yaml.safe_load(configuration)["strict"]
