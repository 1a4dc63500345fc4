"""Who votes in a log, and how many copies a write needs.

A configuration names voters and `copies` (k). A write is committed when k voters hold it; a takeover needs grants from V-k+1 voters, so
that it meets every possible write. While voters change, two configurations are in force and each of them must agree (joint consensus).
"""

from collections.abc import Collection, Iterable
from typing import NamedTuple

from skyclaw.events import ConfigurationChanged


class Configuration(NamedTuple):
    """A set of voters (node ids) and how many of them must hold a write."""

    voters: frozenset[str]
    copies: int

    @property
    def grants(self) -> int:
        """How many voters must let a node take over: they meet every set of `copies` voters."""
        return len(self.voters) - self.copies + 1


Configurations = tuple[Configuration, ...]  # one, or two while voters change; none where nothing is known of the log


def founding(node: str) -> Configurations:
    """The configuration of a log that was just founded."""
    return (Configuration(frozenset({node}), 1),)


def voters_of(configurations: Iterable[Configuration]) -> frozenset[str]:
    """Every node that votes in any of them."""
    return frozenset().union(*(one.voters for one in configurations))


def enough_copies(configurations: Configurations, holders: Collection[str]) -> bool:
    """Is a write that these nodes hold safe?"""
    return bool(configurations) and all(len(one.voters & set(holders)) >= one.copies for one in configurations)


def enough_grants(configurations: Configurations, granters: Collection[str]) -> bool:
    """May a node that these let take over own the log?"""
    return bool(configurations) and all(len(one.voters & set(granters)) >= one.grants for one in configurations)


def copies_of(configurations: Configurations) -> int:
    """How many copies a write has at least, once it is committed."""
    return min((one.copies for one in configurations), default=0)


def as_event(configurations: Configurations) -> ConfigurationChanged:
    """The event that puts the configurations in force."""
    return ConfigurationChanged(tuple((tuple(sorted(one.voters)), one.copies) for one in configurations))


def of_event(event: ConfigurationChanged) -> Configurations:
    """The configurations that the event puts in force."""
    return tuple(Configuration(frozenset(voters), copies) for voters, copies in event.configurations)
