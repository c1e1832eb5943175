"""What can go wrong between the executor and a scheduler."""


class Unanswered(Exception):
    """The scheduler did not answer: it is away or slow. What was asked may have been done, or not."""


class Refused(Exception):
    """The scheduler refuses a job, and would again; the message has its own words."""


class Busy(Exception):
    """The scheduler takes no more jobs at present, for example because of a user's limit or a closed queue."""
