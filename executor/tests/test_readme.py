"""The README's table of schedulers is what their files say.

To write it again: python executor/tests/test_readme.py
"""

import re
import sys
from pathlib import Path

from snakemake_executor_plugin_queue import schedulers

README = Path(__file__).parent.parent / "README.md"
TABLE = re.compile(r"(?<=test_readme\.py -->\n)(.*?)(?=<!-- /schedulers -->)", re.S)


def table() -> str:
    """One row per scheduler: its name, the first line of its file, and its own ways with the settings of a site."""
    lines = [
        "| `scheduler` | for | `account_option` by default | an entry of `resource_types` | keys without effect |",
        "| --- | --- | --- | --- | --- |",
    ]
    for name in schedulers.NAMES:
        scheduler = schedulers.make(name)
        title = (sys.modules[type(scheduler).__module__].__doc__ or "").splitlines()[0].rstrip(".")
        ignored = ", ".join(f"`{key}`" for key in scheduler.IGNORED)
        lines.append(f"| `{name}` | {title} | `{scheduler.ACCOUNT}` | {scheduler.RESOURCE_TYPES} | {ignored} |")
    return "\n".join(lines) + "\n"


def test_the_table_of_schedulers_is_in_sync():
    found = TABLE.search(README.read_text())
    assert found is not None, "the markers are gone"
    assert found[0] == table(), __doc__


if __name__ == "__main__":
    README.write_text(TABLE.sub(lambda _: table(), README.read_text()))
