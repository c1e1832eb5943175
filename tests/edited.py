"""A copy of the package that tests edit, to see which hashes of code change."""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from unittest.mock import patch

from fishertail.results import provenance

PACKAGE = Path(provenance.__file__).parents[1]


@contextmanager
def package(folder: Path) -> Iterator[Path]:
    """A copy below `folder`, of which the hashes are while the context is open."""
    copy = folder / "fishertail"
    shutil.copytree(PACKAGE, copy, ignore=shutil.ignore_patterns("__pycache__"))
    with patch.object(provenance, "_PACKAGE", copy):
        provenance.code_hash.cache_clear()
        yield copy
    provenance.code_hash.cache_clear()


def edit(path: Path, old: str, new: str) -> None:
    """Replace a text that must be there."""
    text = path.read_text()
    assert old in text, f"{path}: {old!r} expected"
    path.write_text(text.replace(old, new))
    provenance.code_hash.cache_clear()
