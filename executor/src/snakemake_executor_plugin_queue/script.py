"""The script that is submitted for a job."""

import shlex
from pathlib import Path
from typing import TYPE_CHECKING

from snakemake_executor_plugin_queue.ledger import Entry, Ledger

if TYPE_CHECKING:  # it imports pydantic
    from snakemake_executor_plugin_queue.site import Site

FINAL_VARIABLE = "SNAKEMAKE_QUEUE_FINAL"  # in a job: the file it creates to say that its failure would happen again


def script(work: str, entry: Entry, ledger: Ledger, site: "Site", own_id: str) -> str:
    """Snakemake's script, preceded by the mark that it has started and followed by the file with its exit code.

    With the exit code in a file, no accounting needs to be asked, which some sites do not have.

    Args:
        work: Snakemake's script.
        own_id: the id of the job as a shell expression.
    """
    started, exit_file, final = (
        shlex.quote(str(path)) for path in (ledger.started(entry), ledger.exit(entry), ledger.final(entry))
    )
    lines = [
        "#!/bin/bash",
        f"cd {shlex.quote(str(Path.cwd()))} || exit 1",
        f"mkdir {started} || {{ echo 'this job was given up before it started' >&2; exit 1; }}",
        f'echo "{own_id}" > {started}/job || exit 1',
        f"export {FINAL_VARIABLE}={final}",
        "(",
    ]
    if site.modules:  # a missing module would be missing in the next attempt, too
        lines.append(". /etc/profile")
        lines += [f"module load {shlex.quote(module)} || {{ touch {final}; exit 1; }}" for module in site.modules]
    if site.scratch:
        wanted = 'echo "scratch: a folder on $(hostname) expected, found $TMPDIR" >&2'
        lines.append(f'export TMPDIR="{site.scratch}"; [ -d "$TMPDIR" ] || {{ {wanted}; exit 1; }}')
    lines += [
        work.rstrip("\n"),
        ") </dev/null",
        "code=$?",
        f"echo $code > {exit_file}.part && mv {exit_file}.part {exit_file}",
        "exit $code",
    ]
    return "\n".join(lines) + "\n"
