"""What a Snakemake job asks the scheduler for, and how it is identified at the next start."""

import hashlib
import json
import os
import re
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

Job: TypeAlias = Any  # a Job or GroupJob of Snakemake; more is read of it than Snakemake's interface declares

_LONGEST_NAME = 90  # PBS refuses more than 236 characters; files carry the name, too, with a suffix


@dataclass(frozen=True)
class Request:
    """A job as schedulers need to know it."""

    name: str  # rule and wildcards, in characters that schedulers and file systems accept
    key: str  # the same for the same outputs
    stamp: str  # the same for the same parameters, inputs and code
    gpus: int
    cpus: int
    minutes: int
    mem_mb: int | None
    queue: str | None = None  # if the rule names one itself

    @classmethod
    def of(cls, job: Job) -> "Request":
        """The request of a job or group job.

        Its resources are `gpus`, `runtime` (minutes), `mem_mb` and `queue`; one not known yet counts as not given.
        """
        rule = job.groupid if job.is_group() else job.rule.name
        wildcards = "" if job.is_group() else "-".join(str(value) for value in (job.wildcards or ()))
        resources = dict(job.resources.items())
        queue = resources.get("queue")
        return cls(
            name=job_name(f"{rule}.{wildcards}" if wildcards else rule),
            key=job_key(job),
            stamp=_stamp(job),
            gpus=_number(resources.get("gpus"), 0),
            cpus=max(1, _number(job.threads, 1)),
            minutes=max(1, _number(resources.get("runtime"), 60)),
            mem_mb=_number(resources.get("mem_mb"), 0) or None,
            queue=queue if isinstance(queue, str) and queue else None,
        )


def job_key(job: Job) -> str:
    """The same for the same outputs."""
    return digest([sorted(job.rules), sorted(outputs_of(job))])


def outputs_of(job: Job) -> list[str]:
    """All outputs of a job, or of the jobs of a group."""
    return [str(output) for member in members_of(job) for output in member.output]


def members_of(job: Job) -> list[Job]:
    """The jobs of a group; any other job alone."""
    return list(job.jobs) if job.is_group() else [job]


def job_name(text: str) -> str:
    """A name that all schedulers and file systems accept; it begins with a letter."""
    name = re.sub(r"[^A-Za-z0-9_.-]", "_", text)
    return (name if name[:1].isalpha() else f"job.{name}")[:_LONGEST_NAME]


def digest(what: object) -> str:
    """A short digest of a value, the same in every process."""
    return hashlib.sha256(json.dumps(_plain(what)).encode()).hexdigest()[:24]


def _plain(what: object) -> object:
    """A value that JSON can hold, in a fixed order; other objects by their repr, without addresses."""
    if isinstance(what, dict):
        return sorted([repr(key), _plain(value)] for key, value in what.items())
    if isinstance(what, set | frozenset):
        return sorted(repr(each) for each in what)
    if isinstance(what, list | tuple):
        return [_plain(each) for each in what]
    if what is None or isinstance(what, str | int | float | bool):
        return what
    return re.sub(r" at 0x[0-9a-f]+", "", repr(what))


def _number(value: object, otherwise: int) -> int:
    return int(value) if isinstance(value, int | float) and not isinstance(value, bool) else otherwise


def _stamp(job: Job) -> str:
    """A digest of what determines a result: parameters, code, software, and inputs by size and time."""
    parts = [
        digest([each.rule.name, dict(each.params.items()), list(each.params), _code(each), _software(each)])
        for each in members_of(job)
    ]
    return digest([sorted(parts), [[str(name), *_size_and_time(str(name))] for name in sorted(job.input)]])


def _code(job: Job) -> list[str | None]:
    """What a job runs: its command, the source of its function, or the text of its script."""
    rule = job.rule
    code = [rule.shellcmd, rule.run_func_src, *(str(getattr(rule, kind, None)) for kind in ("wrapper", "cwl"))]
    for name in (rule.script, rule.notebook):
        code.append(str(name))
        with suppress(OSError, TypeError):
            code.append(repr((Path(str(rule.basedir)) / job.format_wildcards(str(name))).read_bytes()))
    return code


def _software(job: Job) -> list[str | None]:
    """The environment that a job runs in: a conda file, an image, or modules."""
    environment = str(job.conda_env_spec) if job.conda_env_spec else None
    found = [environment, job.container_img_url, str(job.env_modules)]
    if environment is not None:
        with suppress(OSError):
            found.append(Path(environment).read_text(encoding="utf-8"))
    return found


def _size_and_time(name: str) -> tuple[int, int] | tuple[()]:
    with suppress(OSError):
        found = os.stat(name)
        return found.st_size, found.st_mtime_ns
    return ()
