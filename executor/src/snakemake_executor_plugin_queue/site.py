"""The settings of a site, from the YAML file that --queue-site names."""

from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, Any

import yaml
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError
from pydantic_core import ErrorDetails, PydanticCustomError

from snakemake_executor_plugin_queue import schedulers
from snakemake_executor_plugin_queue.errors import Refused


def _known(scheduler: str) -> str:
    if scheduler not in schedulers.NAMES:
        raise PydanticCustomError(
            "unknown_scheduler", "one of {names} expected", {"names": ", ".join(schedulers.NAMES)}
        )
    return scheduler


Positive = Annotated[int, Field(strict=True, ge=1)]
NotNegative = Annotated[float, Field(ge=0)]
ByGpus = dict[Annotated[int, Field(ge=0)], str]


class Charge(BaseModel):
    """What a job is charged, for those who estimate it; it changes nothing about submission.

    That is factor x (used x seconds, `least` at least, + asked x seconds asked for) / 3600, with the smallest entry of
    `factors` that has enough GPUs.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    factors: Annotated[dict[Annotated[int, Field(ge=0)], NotNegative], Field(min_length=1)]
    used: NotNegative = 1.0
    asked: NotNegative = 0.0
    least: NotNegative = 0.0


class Site(BaseModel):
    """How jobs are submitted at a site. The README has a table of the keys."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    scheduler: Annotated[str, AfterValidator(_known)]
    account: str | None = None
    account_option: Annotated[str, Field(pattern=r"^[^{}]*\{account\}[^{}]*$")] | None = None
    account_required: bool = True
    trial_minutes: Positive | None = None
    queue: str | ByGpus | None = None
    resource_types: ByGpus = {}
    node_gpus: Positive = 4
    cpus_per_gpu: Positive = 1
    walltime_limit: Positive | None = None
    modules: list[str] = []
    scratch: str | None = None
    options: list[str] = []
    charge: Charge | None = None

    @property
    def queues(self) -> ByGpus:
        """The queue by number of GPUs."""
        return {0: self.queue, self.node_gpus: self.queue} if isinstance(self.queue, str) else self.queue or {}

    @property
    def is_trial(self) -> bool:
        """Whether jobs are trial runs, for lack of an account."""
        return self.account is None and self.trial_minutes is not None

    def minutes(self, wanted: int) -> int:
        """The walltime that a job may ask for, in minutes."""
        limits = [self.walltime_limit, self.trial_minutes if self.is_trial else None]
        return min([wanted, *(limit for limit in limits if limit is not None)])

    def entry(self, table: str, gpus: int) -> str | None:
        """The entry of `queues` or `resource_types` for a number of GPUs: the smallest with enough of them.

        Returns:
            None where the site has no such table.

        Raises:
            Refused: no entry has enough GPUs.
        """
        entries: ByGpus = getattr(self, table)
        if not entries:
            return None
        enough = [count for count in entries if count >= gpus and (count > 0) == (gpus > 0)]
        if not enough:
            key = "queue" if table == "queues" else table
            raise Refused(f"{key}: an entry for {gpus} GPUs expected, found {sorted(entries)}")
        return entries[min(enough)]


def load(path: str | Path) -> Site:
    """Read and check the settings.

    Raises:
        Refused: names the file and every faulty key, what was expected and what was found.
    """
    try:
        text = Path(path).read_text(encoding="utf-8")
        found = yaml.safe_load(text)
    except (OSError, yaml.YAMLError) as error:
        raise Refused(f"{path}: a YAML file with the settings of the site expected: {error}") from None
    if not isinstance(found, dict):
        raise Refused(f"{path}: keys and values expected, found {type(found).__name__}")
    try:
        site = Site.model_validate(found)
    except ValidationError as error:
        raise Refused(_listed(path, (_words(fault) for fault in error.errors()))) from None
    faults = []
    if site.account is None and site.account_required and site.trial_minutes is None:
        faults.append("account: the group, project or account to charge expected, found none")
    values: dict[str, Any] = dict(site)
    faults += [
        f"{key}: nothing expected, since it has no effect with {site.scheduler}; found {values[key]!r}"
        for key in schedulers.make(site.scheduler).IGNORED
        if values[key] != Site.model_fields[key].default
    ]
    if faults:
        raise Refused(_listed(path, faults))
    return site


def _listed(path: str | Path, faults: Iterable[str]) -> str:
    lines = [f"nothing is submitted, because the settings of the site have faults ({path}):"]
    return "\n".join([*lines, *(f"  {fault}" for fault in faults)])


def _words(fault: ErrorDetails) -> str:
    where = ".".join(str(part) for part in fault["loc"])
    if fault["type"] == "missing":  # `scheduler`, the one key without a default
        return f"{where}: one of {', '.join(schedulers.NAMES)} expected, found none"
    if fault["type"] == "extra_forbidden":
        return f"{where}: no such key; known are {', '.join(Site.model_fields)}"
    return f"{where}: {fault['msg'][:1].lower()}{fault['msg'][1:]}, found {fault['input']!r}"
