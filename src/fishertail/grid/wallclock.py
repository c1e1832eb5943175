"""How long jobs that wait for each other take: the longest chain, and the whole where only so many run at a time."""

import heapq
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TypeAlias

Key: TypeAlias = tuple[str, str]  # rule and folder of the results


@dataclass(frozen=True)
class Timed:
    """A job in time.

    Attributes:
        seconds: the time that it takes.
        needs: jobs that must end before it starts; those that are not pending count as ended.
        places: how many of the available places (jobs or cores) it takes.
    """

    seconds: float
    needs: Sequence[Key]
    places: int = 1


def longest_chain(jobs: Mapping[Key, Timed]) -> list[Key]:
    """The chain of dependent jobs that takes longest, in order: no number of places makes all jobs take less.

    Args:
        jobs: each after those that it needs.
    """
    ends: dict[Key, float] = {}
    before: dict[Key, Key | None] = {}
    for key, job in jobs.items():
        last = max((need for need in job.needs if need in ends), key=ends.__getitem__, default=None)
        before[key] = last
        ends[key] = job.seconds + (ends[last] if last is not None else 0.0)
    chain: list[Key] = []
    at = max(ends, key=ends.__getitem__, default=None)
    while at is not None:
        chain.append(at)
        at = before[at]
    return chain[::-1]


def makespan(jobs: Mapping[Key, Timed], places: int) -> float:
    """Seconds until all jobs have ended, where each starts as soon as there is room, those of long chains first.

    Args:
        jobs: each after those that it needs.
        places: how many there are; a job that takes more than that takes all of them.
    """
    urgency, followers, waiting = _after(jobs)
    ready = [(-urgency[key], key) for key, count in waiting.items() if count == 0]
    heapq.heapify(ready)
    running: list[tuple[float, Key, int]] = []
    now, free = 0.0, places
    while ready or running:
        put_back = []
        while ready and free > 0:
            entry = heapq.heappop(ready)
            taken = min(jobs[entry[1]].places, places)
            if taken > free:
                put_back.append(entry)
                continue
            free -= taken
            heapq.heappush(running, (now + jobs[entry[1]].seconds, entry[1], taken))
        for entry in put_back:
            heapq.heappush(ready, entry)
        now, ended, taken = heapq.heappop(running)
        free += taken
        for key in followers[ended]:
            waiting[key] -= 1
            if waiting[key] == 0:
                heapq.heappush(ready, (-urgency[key], key))
    return now


def _after(jobs: Mapping[Key, Timed]) -> tuple[dict[Key, float], dict[Key, list[Key]], dict[Key, int]]:
    """Of each job: seconds of the longest chain that starts with it, the jobs that need it, and how many it needs."""
    followers: dict[Key, list[Key]] = {key: [] for key in jobs}
    waiting: dict[Key, int] = {}
    for key, job in jobs.items():
        needs = [need for need in job.needs if need in jobs]
        waiting[key] = len(needs)
        for need in needs:
            followers[need].append(key)
    urgency: dict[Key, float] = {}
    for key in reversed(list(jobs)):
        urgency[key] = jobs[key].seconds + max((urgency[other] for other in followers[key]), default=0.0)
    return urgency, followers, waiting
