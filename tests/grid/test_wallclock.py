"""The longest chain, and the time of all jobs where only so many run at a time."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fishertail.grid.wallclock import Timed, longest_chain, makespan


def key(name: str) -> tuple[str, str]:
    return name, "folder"


DIAMOND = {  # a, then b and c, then d
    key("a"): Timed(1, []),
    key("b"): Timed(5, [key("a")]),
    key("c"): Timed(2, [key("a")]),
    key("d"): Timed(10, [key("b"), key("c"), key("not pending")]),
}


def test_the_longest_chain_goes_through_the_slower_branch():
    assert longest_chain(DIAMOND) == [key("a"), key("b"), key("d")]
    assert longest_chain({}) == []


@pytest.mark.parametrize(("places", "seconds"), [(1, 18), (2, 16), (100, 16)])
def test_a_diamond(places, seconds):
    assert makespan(DIAMOND, places) == seconds


def test_long_chains_start_first():
    """The chain of 2 + 8 starts at once; in the order of names it would start after the others."""
    jobs = {key(f"short{i}"): Timed(4, []) for i in range(3)}
    jobs |= {key("x"): Timed(2, []), key("y"): Timed(8, [key("x")])}
    assert makespan(jobs, 2) == 12


def test_wide_jobs_wait_for_room_and_narrow_ones_pass_them():
    jobs = {key("wide"): Timed(4, [], places=4), key("long"): Timed(6, []), key("short"): Timed(2, [])}
    assert makespan(jobs, 2) == 10  # long and short side by side, then wide, which takes both places
    assert makespan(jobs, 5) == 6


@st.composite
def graphs(draw):
    jobs: dict[tuple[str, str], Timed] = {}
    for index in range(draw(st.integers(1, 12))):
        needs = draw(st.lists(st.sampled_from(list(jobs)), unique=True, max_size=3)) if jobs else []
        jobs[key(str(index))] = Timed(draw(st.integers(0, 20)), needs)
    return jobs


@given(graphs(), st.integers(1, 5))
def test_between_what_must_be_and_grahams_bound(jobs, places):
    """R. L. Graham, Bounds on multiprocessing timing anomalies (1969): no list of jobs does worse than this."""
    chain = sum(jobs[each].seconds for each in longest_chain(jobs))
    work = sum(job.seconds for job in jobs.values()) / places
    found = makespan(jobs, places)
    assert max(chain, work) <= found + 1e-9
    assert found <= work + chain * (1 - 1 / places) + 1e-9
    assert makespan(jobs, len(jobs)) == pytest.approx(chain)
