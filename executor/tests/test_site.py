"""The settings of a site: every fault is named before anything is submitted."""

import pytest
import yaml
from snakemake_executor_plugin_queue import schedulers, site
from snakemake_executor_plugin_queue.errors import Refused

KNOWN = ", ".join(schedulers.NAMES)


@pytest.mark.parametrize(
    ("settings", "fault"),
    [
        ({"account": "a"}, f"scheduler: one of {KNOWN} expected, found none"),
        ({"scheduler": "abacus", "account": "a"}, f"scheduler: one of {KNOWN} expected, found 'abacus'"),
        ({"scheduler": "slurm"}, "account: the group, project or account to charge expected, found none"),
        ({"scheduler": "slurm", "acount": "a"}, "acount: no such key; known are scheduler, account"),
        (
            {"scheduler": "slurm", "account": "a", "trial_minutes": 10},
            "trial_minutes: nothing expected, since it has no effect",
        ),
        ({"scheduler": "pbs", "account": "a", "account_option": "-W x"}, "account_option: string should match pattern"),
        ({"scheduler": "pbs", "account": "a", "walltime_limit": "1 day"}, "walltime_limit: .*integer.*found '1 day'"),
        ({"scheduler": "pbs", "account": 12}, "account: input should be a valid string, found 12"),
        ({"scheduler": "pbs", "account": "a", "charge": {"used": 1}}, "charge.factors: "),
        ({"scheduler": "pbs", "account": "a", "charge": {"factors": {1: -1}}}, "charge.factors.1: .*found -1"),
    ],
)
def test_faults(tmp_path, settings, fault):
    path = tmp_path / "site.yaml"
    path.write_text(yaml.safe_dump(settings))
    with pytest.raises(Refused, match=f"(?s)nothing is submitted.*site.yaml.*{fault}"):
        site.load(path)


@pytest.mark.parametrize(("text", "fault"), [(None, "No such file"), ("- a", "found list"), ("a: [", "expected")])
def test_files(tmp_path, text, fault):
    path = tmp_path / "site.yaml"
    if text is not None:
        path.write_text(text)
    with pytest.raises(Refused, match=fault):
        site.load(path)


def test_sizes():
    settings = site.Site(scheduler="gridengine", resource_types={0: "cpu", 1: "quarter", 4: "full"}, queue="q")
    assert [settings.entry("resource_types", gpus) for gpus in (0, 1, 2, 4)] == ["cpu", "quarter", "full", "full"]
    assert settings.entry("queues", 3) == "q"
    with pytest.raises(Refused, match=r"resource_types: an entry for 8 GPUs expected, found \[0, 1, 4\]"):
        settings.entry("resource_types", 8)


def test_walltimes():
    trial = site.Site(scheduler="gridengine", trial_minutes=10, walltime_limit=60)
    assert [trial.minutes(5), trial.minutes(120)] == [5, 10]
    assert site.Site(scheduler="gridengine", account="a", trial_minutes=10, walltime_limit=60).minutes(120) == 60
