"""Where jobs run, as a profile has it: how many at a time, how often one is tried, and what the site charges for it."""

import argparse
import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, Self

from fishertail.errors import ConfigError


@dataclass(frozen=True)
class Charge:
    """What a site charges for a job: factor x (used x seconds, `least` at least, + asked x seconds asked for) / 3600.

    Attributes:
        factors: by GPUs of a job; the smallest entry with enough of them counts.
        used, asked: weights of the time that a job takes, and of the time that it asks for.
        least: seconds that a job counts at least.
    """

    factors: Mapping[int, float]
    used: float = 1.0
    asked: float = 0.0
    least: float = 0.0

    def points(self, gpus: int, seconds: float, asked: float) -> float:
        """The points of a job that takes `seconds` and asked for `asked`.

        Raises:
            ConfigError: no entry has enough GPUs.
        """
        enough = [count for count in self.factors if count >= gpus]
        if not enough:
            raise ConfigError(f"charge.factors: an entry for {gpus} GPUs expected, found {sorted(self.factors)}")
        factor = self.factors[min(enough)]
        return factor * (self.used * max(seconds, self.least) + self.asked * asked) / 3600


@dataclass(frozen=True)
class Place:
    """Where jobs run, as a profile and its site have it.

    Attributes:
        node_gpus: GPUs of a node; None for a machine without a scheduler.
        limit: minutes that a job may ask for.
        retries: how often a failed job is tried again.
        jobs: how many run at a time; None where cores decide.
        cores: cores of this machine, where no scheduler runs jobs.
        charge: how points are charged, where the site has them.
    """

    node_gpus: int | None = None
    limit: float = math.inf
    retries: int = 0
    jobs: int | None = None
    cores: int | None = None
    charge: Charge | None = None

    @classmethod
    def of(cls, profile: Path, others: Sequence[str] = ()) -> Self:
        """The place that a profile's folder describes.

        Args:
            others: arguments of snakemake, of which `--jobs`, `--cores`, `--retries` and `--queue-site` count.

        Raises:
            ConfigError: there is no such profile, its files are no YAML, or the site's `charge` has other keys.
        """
        options = _read(profile / "config.yaml") | _given(others)
        retries = int(options.get("retries", 0))
        if "queue-site" not in options:
            cores = options.get("cores", 1)
            return cls(retries=retries, cores=os.cpu_count() if cores == "all" else int(cores))
        path = profile / options["queue-site"]
        site = _read(path)
        charge, known = site.get("charge"), [field.name for field in fields(Charge)]
        if charge is not None and ("factors" not in charge or not set(charge) <= set(known)):
            raise ConfigError(f"{path}: charge: keys among {', '.join(known)} expected, factors among them")
        return cls(
            node_gpus=site.get("node_gpus", 4),
            limit=site.get("walltime_limit") or math.inf,
            retries=retries,
            jobs=None if options.get("jobs") in (None, "unlimited") else int(options["jobs"]),
            charge=None if charge is None else Charge(**charge),
        )


def _given(others: Sequence[str]) -> dict[str, str]:
    """What arguments of snakemake set."""
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    for names in (["--jobs", "-j"], ["--cores", "-c"], ["--retries", "-T"], ["--queue-site"]):
        parser.add_argument(*names, default=argparse.SUPPRESS)
    found = vars(parser.parse_known_args(list(others))[0])
    if "queue_site" in found:
        found["queue-site"] = str(Path(found.pop("queue_site")).absolute())  # a profile's is beside the profile
    return found


def _read(path: Path) -> dict[str, Any]:
    """A file of a profile."""
    import yaml

    try:
        found = yaml.safe_load(path.read_text(encoding="utf-8")) or {}
    except OSError as error:
        raise ConfigError(f"{path}: a file of a profile expected, found none ({error.strerror})") from error
    except (ValueError, yaml.YAMLError) as error:
        raise ConfigError(f"{path}: YAML expected, found {' '.join(str(error).split())}") from error
    if not isinstance(found, dict):
        raise ConfigError(f"{path}: keys with values expected, found {found!r}")
    return found
