"""Which setting of a host decided that it refused a job or a service."""

import re

_REMEDIES = {
    "command not allowed": "; the host's SKYCLAW_ALLOWED_COMMANDS does not list it",
    "cwd not allowed": "; it is not below the host's SKYCLAW_WORK_ROOTS",
}
_REFUSAL = re.compile(rf"(?:^|: )({'|'.join(_REMEDIES)}): ")


def is_refusal(sentence: str) -> bool:
    """Whether a host refused to start the command at all."""
    return _REFUSAL.search(sentence) is not None


def remedied(sentence: str) -> str:
    """A sentence that is or ends with an error of a host, and the setting when one decided."""
    refusal = _REFUSAL.search(sentence)
    return sentence + (_REMEDIES[refusal[1]] if refusal else "")
