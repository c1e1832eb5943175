"""The script that is submitted for a job."""

import shlex
from pathlib import Path

from snakemake_executor_plugin_queue.ledger import Entry, Ledger

FINAL_VARIABLE = "SNAKEMAKE_QUEUE_FINAL"  # in a job: the file by which it says that its failure would come again


def script(work: str, entry: Entry, ledger: Ledger, site, own_id: str) -> str:
    """Snakemake's script, between the mark that it has started and the file with its exit code.

    With the exit code in a file, no accounting is needed, which some sites do not have, and none is asked.

    Args:
        work: Snakemake's script.
        own_id: the id of the job, as its shell has it.
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
    if site.modules:  # one that is missing is missing at the next attempt, too
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
