"""The pages of the claims in the navigation, so that a new claim needs no entry of its own."""

from pathlib import Path

from mkdocs.config.defaults import MkDocsConfig

SECTION = "The claims"


def on_config(config: MkDocsConfig) -> None:
    """Fill the section with the pages of the folder."""
    pages = sorted((Path(config.docs_dir) / "reproduction" / "claims").glob("*.md"), key=lambda path: int(path.stem))
    _fill(config.nav, [f"reproduction/claims/{path.name}" for path in pages])


def _fill(entries: object, pages: list[str]) -> None:
    for entry in entries if isinstance(entries, list) else []:
        if isinstance(entry, dict):
            for name in entry:
                if name == SECTION:
                    entry[name] = list(pages)
                else:
                    _fill(entry[name], pages)
