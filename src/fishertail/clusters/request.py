"""What a job asks for, as the script that Snakemake writes for it says, and the cluster's settings."""

import hashlib
import json
import os
import re
import shlex
import uuid
from dataclasses import dataclass
from pathlib import Path

SETTINGS_VARIABLE = "FISHERTAIL_CLUSTER"  # the key `cluster` of the configuration, as JSON
RUN_VARIABLE = "FISHERTAIL_RUN"  # which start of Snakemake a job belongs to
STAMP_VARIABLE = "FISHERTAIL_STAMP"  # the same for the same configuration and code
_LONGEST_NAME = 100  # PBS refuses more than 236 characters, and a file name has at most 255


class ClusterError(Exception):
    """A job cannot be submitted; the message is for the user."""


@dataclass(frozen=True)
class Request:
    """A job that Snakemake wants to run."""

    script: str  # its text
    rule: str
    name: str  # rule and wildcards, as file names and all schedulers have them
    key: str  # the same for the same outputs in the same directory
    stamp: str  # the same for the same parameters
    gpus: int
    cpus: int
    minutes: int
    mem_mb: int | None
    log: str | None = None  # where the rule writes its own

    @classmethod
    def read(cls, path: str) -> "Request":
        """Of a script of Snakemake's, which begins with a line "# properties = {...}"."""
        script = Path(path).read_text()
        line = next((line for line in script.splitlines() if line.startswith("# properties = ")), None)
        if line is None:
            raise ClusterError(f"{path}: a line '# properties = ' expected, found none")
        properties = json.loads(line.partition("=")[2])
        resources = properties.get("resources", {})
        rule = properties.get("rule") or properties.get("groupid") or "group"
        wildcards = "-".join(str(value) for value in (properties.get("wildcards") or {}).values())
        logs = properties.get("log") or []
        return cls(
            script=script,
            rule=rule,
            name=job_name(f"{rule}.{wildcards}" if wildcards else rule),
            key=digest([os.getcwd(), rule, sorted(properties.get("output") or [])]),
            stamp=digest(properties.get("params")),
            gpus=int(resources.get("gpus", 0)),
            cpus=int(properties.get("threads") or 1),
            minutes=max(1, int(resources.get("runtime", 60))),
            mem_mb=resources["mem_mb"] if isinstance(resources.get("mem_mb"), int) else None,
            log=logs[0] if logs else None,
        )


def digest(what) -> str:
    """A short name for a value of JSON."""
    return hashlib.sha256(json.dumps(what, sort_keys=True).encode()).hexdigest()[:24]


def job_name(text: str) -> str:
    """A name that Grid Engine, PBS and file systems take: it begins with a letter."""
    name = re.sub(r"[^A-Za-z0-9_.-]", "_", text)
    return (name if name[:1].isalpha() else f"job.{name}")[:_LONGEST_NAME]


def export(cluster: dict, stamp: str, source: Path) -> None:
    """Give the programs that submit jobs, and the jobs, what they are told by the environment.

    Args:
        cluster: the key `cluster` of the configuration.
        stamp: the same for the same configuration and code, as far as results depend on them.
        source: the folder of this package, for jobs in an environment of conda or a container, which do not have it.
    """
    os.environ[SETTINGS_VARIABLE] = json.dumps(cluster)
    os.environ[STAMP_VARIABLE] = stamp
    os.environ[RUN_VARIABLE] = uuid.uuid4().hex
    os.environ.setdefault("TQDM_MININTERVAL", "20")  # seconds between the progress notes of a log
    others = [path for path in os.environ.get("PYTHONPATH", "").split(os.pathsep) if path]
    os.environ["PYTHONPATH"] = os.pathsep.join([str(source), *others])


def settings() -> dict:
    """The key `cluster` of the configuration, with all defaults."""
    try:
        return json.loads(os.environ[SETTINGS_VARIABLE])
    except KeyError:
        raise ClusterError(f"{SETTINGS_VARIABLE} is not set: start snakemake with a profile of this project") from None


def account(cluster: dict, option: str) -> list[str]:
    """The arguments that charge a job to an account: `option` is the scheduler's own way, which a site may replace."""
    if not cluster["account"]:
        return []
    return shlex.split((cluster["account_option"] or option).format(account=cluster["account"]))


def size(request: Request, cluster: dict, table: str) -> str:
    """The entry of a table by numbers of GPUs, such as {1: node_q, 4: node_f}: the smallest with enough of them."""
    entries = {int(gpus): entry for gpus, entry in cluster[table].items()}
    enough = [gpus for gpus in entries if gpus >= request.gpus and (gpus > 0) == (request.gpus > 0)]
    if not enough:
        raise ClusterError(
            f"cluster.{table}: an entry for {request.gpus} GPUs expected (rule {request.rule}), found {sorted(entries)}"
        )
    return entries[min(enough)]
