"""Jobs that share a node: who joins, who runs when, and that none is lost or run twice."""

import json
import subprocess
import sys
import time

import pytest

from fishertail.clusters import packs, spool
from tests.schedulers.loopback import wait_for


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


def put(pack: str, number: int, *, gpus: int = 1, seconds: float = 1.0, code: int = 0) -> packs.Member | None:
    note = f'echo "{number} $CUDA_VISIBLE_DEVICES $(date +%s.%N)" >> notes'
    script = f"{note}; sleep {seconds}; {note}; exit {code}"
    member = packs.Member(pack, f"token{number}")
    return member if packs.put(member, spool.wrapped(script, member.token, member.id, []), gpus, 10, "log") else None


def start(pack: str) -> subprocess.Popen:
    command = [sys.executable, "-m", "fishertail.clusters.packs", str(packs._folder(pack))]
    return subprocess.Popen(command, env={"CUDA_VISIBLE_DEVICES": "4,5,6,7", "PATH": "/usr/bin:/bin"})


def notes(folder) -> dict[int, list]:
    found: dict[int, list] = {}
    for line in (folder / "notes").read_text().splitlines():
        number, gpus, moment = line.split()
        found.setdefault(int(number), []).append((gpus, float(moment)))
    return found


def test_four_run_at_once_each_on_its_own_gpu_and_others_join(folder):
    pack = packs.open_pack(10)
    members = [put(pack, 0)]
    packs.submitted(pack, "17")
    assert members[0].scheduler_job == "17"
    assert packs.member_of(members[0].id) == members[0]
    process = start(pack)
    for number in range(1, 4):
        assert packs.joinable(1, 10, 4) == [pack]
        members.append(put(pack, number))
    assert process.wait(timeout=30) == 0
    found = notes(folder)
    assert sorted(gpus for (gpus, _), _ in found.values()) == ["4", "5", "6", "7"]
    assert max(start for (_, start), _ in found.values()) < min(end for _, (_, end) in found.values())
    assert [member.exit_code() for member in members] == [0, 0, 0, 0]
    assert packs.joinable(1, 10, 4) == []


def test_a_pack_takes_no_more_than_a_node_has(folder):
    pack = packs.open_pack(10)
    put(pack, 0, gpus=2)
    packs.submitted(pack, "17")
    assert packs.joinable(2, 10, 4) == [pack]
    assert packs.joinable(4, 10, 4) == []
    assert packs.joinable(1, 11, 4) == []  # longer than the pack's job


def test_a_member_that_fails_leaves_the_others_alone(folder):
    pack = packs.open_pack(10)
    first = put(pack, 0, code=3)
    second = put(pack, 1)
    packs.submitted(pack, "17")
    start(pack).wait(timeout=30)
    assert (first.exit_code(), second.exit_code()) == (3, 0)


def test_a_member_that_is_killed_has_an_exit_code_at_once(folder):
    pack = packs.open_pack(10)
    member = put(pack, 0, seconds=60)
    other = put(pack, 1, seconds=5)
    packs.submitted(pack, "17")
    process = start(pack)
    wait_for(lambda: (folder / "notes").exists() and 0 in notes(folder), 10, "the member")
    subprocess.run(["pkill", "-9", "-f", f"{member.token}.1.10.running"], check=True)
    wait_for(lambda: member.exit_code() is not None, 3, "its exit code")
    assert member.exit_code() == 137
    assert other.exit_code() is None
    assert process.wait(timeout=30) == 0


def test_a_member_put_too_late_is_taken_back(folder):
    pack = packs.open_pack(10)
    put(pack, 0)
    packs.submitted(pack, "17")
    start(pack).wait(timeout=30)
    assert put(pack, 1) is None
    assert 1 not in notes(folder)


def test_a_cancelled_member_ends_alone_and_the_last_ends_the_pack(folder):
    pack = packs.open_pack(10)
    first, second = put(pack, 0, seconds=60), put(pack, 1, seconds=60)
    packs.submitted(pack, "17")
    process = start(pack)
    wait_for(lambda: (folder / "notes").exists() and len(notes(folder)) == 2, 10, "both members")
    assert not packs.cancel(first)
    wait_for(lambda: len(list(packs._folder(pack).glob("*.ended"))) == 1, 10, "the end of the first")
    assert packs.cancel(second)
    process.wait(timeout=20)


def test_many_that_join_while_packs_close_are_each_run_once(folder):
    """Members come one after the other while packs start, fill up and close."""
    started, numbers = [], range(24)
    for number in numbers:
        member = None
        for pack in packs.joinable(1, 10, 4):
            member = member or put(pack, number, seconds=0.3)
        if member is None:
            pack = packs.open_pack(10)
            assert put(pack, number, seconds=0.3) is not None
            packs.submitted(pack, f"{number}")
            started.append(start(pack))
        time.sleep(0.15)
    for process in started:
        assert process.wait(timeout=60) == 0
    found = notes(folder)
    assert sorted(found) == list(numbers)
    assert all(len(moments) == 2 for moments in found.values()), json.dumps(found)
    assert len(started) < 24
