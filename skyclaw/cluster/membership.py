"""Who should vote in a log, as its owner sees it. It proposes; what becomes of it is the protocol's business.

1. The number of copies is what the operator set. Without a setting it is 1 until three coordinators are level, and 2 from then on; it is
   never lowered by itself.
2. There are 2k-1 voters, as far as there are level nodes: then takeovers survive as many losses as writes do.
3. A voter that left, was turned out, or whose address belongs to a newer node, or that was silent for long, is replaced when a level
   node is there to replace it; a log never has fewer voters because one is silent, only because one left.
4. Nodes with labels that no voter has come first: one label is one machine, or one owner.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass

from skyclaw.cluster.configuration import Configuration

LEVEL = 1000  # records behind the owner at which a node counts as level
REPLACE_AFTER_MS = 600_000


@dataclass(frozen=True, slots=True)
class Member:
    """A coordinator as the owner of a log sees it."""

    node: str
    end: int  # of its copy
    silent_ms: float  # since it was last heard of
    leaving: bool = False  # by its own wish
    replaced: bool = False  # turned out, or its address belongs to a newer node
    witness: bool = False


@dataclass(frozen=True, slots=True)
class Policy:
    """What the operator wants: `copies` is None where it was left open."""

    copies: int | None = None
    fresh_ms: int = 3500
    replace_after_ms: int = REPLACE_AFTER_MS


def wanted(
    present: Configuration, own: str, end: int, members: Sequence[Member], policy: Policy, own_leaves: bool = False
) -> Configuration:
    """The voters that the log should have; `members` are all other coordinators known, `own` is the owner, whose copy ends at `end`."""
    known = {member.node: member for member in members}
    level = [member for member in members if _is_level(member, end, policy)]
    if own_leaves and len(present.voters) == 1 and level:
        return Configuration(frozenset({level[0].node}), 1)
    copies = _copies(present, len(level) + 1, policy)
    staying = [voter for voter in sorted(present.voters) if voter == own or not _is_gone(known.get(voter), policy)]
    leaving = {voter for voter in present.voters if voter in known and known[voter].leaving}
    gone = [voter for voter in sorted(present.voters) if voter not in staying and voter not in leaving]
    voters = set(staying) - leaving
    for candidate in _by_preference({member.node for member in level} - present.voters, voters):
        if len(voters) >= 2 * copies - 1:
            break
        voters.add(candidate)
    while gone and len(voters) < max(len(present.voters) - len(leaving), 2 * copies - 1):
        voters.add(gone.pop(0))
    copies = min(copies, len(voters))
    return Configuration(frozenset(voters), max(copies, min(present.copies, len(voters))))


def _copies(present: Configuration, coordinators: int, policy: Policy) -> int:
    if policy.copies is not None:
        return max(present.copies, min(policy.copies, coordinators))
    return max(present.copies, 2 if coordinators >= 3 else 1)


def _is_level(member: Member, end: int, policy: Policy) -> bool:
    usable = not (member.leaving or member.replaced)
    return usable and member.silent_ms < policy.fresh_ms and member.end >= end - LEVEL


def _is_gone(member: Member | None, policy: Policy) -> bool:
    """Is this voter to be replaced? One that nobody has told of yet may still come."""
    return member is not None and (member.leaving or member.replaced or member.silent_ms > policy.replace_after_ms)


def _by_preference(candidates: Collection[str], voters: Collection[str]) -> list[str]:
    labels = {label_of(voter) for voter in voters}
    return sorted(candidates, key=lambda node: (label_of(node) in labels, node))


def label_of(node: str) -> str:
    """What the operator called the machine; the rest of a node's id was drawn."""
    return node.rpartition("#")[0]
