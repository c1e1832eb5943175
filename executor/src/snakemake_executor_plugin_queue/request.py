"""What a job of Snakemake's asks the scheduler for, and what tells it from others."""

import hashlib
import json
import os
import re
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

_LONGEST_NAME = 90  # PBS refuses more than 236 characters; a file has the name, too, and an ending


@dataclass(frozen=True)
class Request:
    """A job, as schedulers need to know it."""

    rule: str
    name: str  # rule and wildcards, in characters that schedulers and file systems take
    key: str  # the same for the same outputs
    stamp: str  # the same for the same parameters, inputs and code
    gpus: int
    cpus: int
    minutes: int
    mem_mb: int | None
    queue: str | None = None  # where the rule names one itself

    @classmethod
    def of(cls, job) -> "Request":
        """Of a job or group job of Snakemake's.

        Resources are `gpus`, `runtime` (minutes), `mem_mb` and `queue`; what is not known yet counts as not given.
        """
        rule = job.groupid if job.is_group() else job.rule.name
        wildcards = "" if job.is_group() else "-".join(str(value) for value in (job.wildcards or ()))
        resources = dict(job.resources.items())
        queue = resources.get("queue")
        return cls(
            rule=rule,
            name=job_name(f"{rule}.{wildcards}" if wildcards else rule),
            key=job_key(job),
            stamp=_stamp(job),
            gpus=_number(resources.get("gpus"), 0),
            cpus=max(1, _number(job.threads, 1)),
            minutes=max(1, _number(resources.get("runtime"), 60)),
            mem_mb=_number(resources.get("mem_mb"), 0) or None,
            queue=queue if isinstance(queue, str) and queue else None,
        )


def job_key(job) -> str:
    """The same for the same outputs."""
    return digest([sorted(job.rules), sorted(map(str, job.output))])


def job_name(text: str) -> str:
    """A name that all schedulers and file systems take: it begins with a letter."""
    name = re.sub(r"[^A-Za-z0-9_.-]", "_", text)
    return (name if name[:1].isalpha() else f"job.{name}")[:_LONGEST_NAME]


def digest(what) -> str:
    """A short name for a value; values that are not JSON count as Python shows them."""
    return hashlib.sha256(json.dumps(what, sort_keys=True, default=repr).encode()).hexdigest()[:24]


def _number(value, otherwise: int) -> int:
    return int(value) if isinstance(value, int | float) and not isinstance(value, bool) else otherwise


def _stamp(job) -> str:
    """Of what decides a result: parameters, code, and inputs by size and time."""
    members = job.jobs if job.is_group() else [job]
    parts = sorted(
        digest([each.rule.name, list(each.params.items()), list(each.params), _code(each.rule)]) for each in members
    )
    return digest([parts, [[str(name), *_size_and_time(str(name))] for name in sorted(job.input)]])


def _code(rule) -> list[str | None]:
    """What a rule runs: its command, its function's source, or its script's text."""
    code = [rule.shellcmd, rule.run_func_src, *(str(getattr(rule, kind, None)) for kind in ("wrapper", "cwl"))]
    for name in (rule.script, rule.notebook):
        code.append(str(name))
        with suppress(OSError, TypeError):
            code.append(digest((Path(str(rule.basedir)) / str(name)).read_text()))
    return code


def _size_and_time(name: str) -> tuple[int, int] | tuple[()]:
    with suppress(OSError):
        found = os.stat(name)
        return found.st_size, found.st_mtime_ns
    return ()
