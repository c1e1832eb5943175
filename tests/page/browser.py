"""Headless Chromium, driven by Playwright. `make browser` installs it."""

import shutil
from pathlib import Path

import pytest

from tests.workflow.project import ROOT

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
ARTEFACTS = ROOT / "tests" / "artefacts"
needed = pytest.mark.skipif(CHROMIUM is None, reason="chromium not installed: make browser")


class Opened:
    """A page that notes what goes wrong in it, and what it fetches."""

    def __init__(self, browser, path: Path, state: str = "", **options):
        self.page = browser.new_page(**options)
        self.path, self.errors, self.fetched = path, [], []
        self.page.on("console", lambda message: self.errors.append(message.text) if message.type == "error" else None)
        self.page.on("pageerror", lambda error: self.errors.append(str(error)))
        self.page.on("request", lambda request: self.fetched.append(request.url))
        self.page.goto(path.as_uri() + state)
        self.page.wait_for_selector("body[data-ready]", timeout=30_000)

    def bars(self) -> list[str]:
        """The outlines of the histogram's bars."""
        marks = "#chart-histogram .mark-rect path"
        return self.page.eval_on_selector_all(marks, "paths => paths.map(path => path.getAttribute('d'))")

    def epoch(self) -> str:
        return self.page.inner_text("#epoch-shown")

    def settle(self) -> None:
        self.page.wait_for_timeout(200)

    def close(self) -> None:
        """Nothing may have gone wrong, and nothing been fetched."""
        assert self.errors == []
        assert [url for url in self.fetched if not url.startswith(("file:", "data:", "blob:"))] == []
        self.page.close()
