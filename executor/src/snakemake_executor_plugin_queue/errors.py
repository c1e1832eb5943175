"""What can go wrong between the executor and a scheduler."""


class Unanswered(Exception):
    """The scheduler did not answer: it is away or slow. The request may have been carried out or not."""


class Refused(Exception):
    """A job or a setting is refused, and would be refused again; the message has the scheduler's own words."""


class Busy(Exception):
    """The scheduler accepts no more jobs at present, for example because of a user's limit or a closed queue."""
