"""What a verb works with: the environment, its settings, and the coordinators they name."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

from skyclaw.entrypoints import rendering
from skyclaw.entrypoints.settings import ClientSettings, client_settings

if TYPE_CHECKING:
    from skyclaw.outside.coordinators import Coordinators


@dataclass(frozen=True)
class Session:
    """One call of the command line; settings are read and connections made when they are first asked for."""

    environ: Mapping[str, str]

    @cached_property
    def settings(self) -> ClientSettings:
        """The client's settings; says its warnings once."""
        settings = client_settings(self.environ)
        rendering.warn(settings.warnings)
        return settings

    @cached_property
    def coordinators(self) -> "Coordinators":
        """The coordinators that the settings name."""
        from skyclaw.outside.coordinators import Coordinators

        return Coordinators(self.settings.urls, self.settings.token, tell=tell)


def tell(reason: str) -> None:
    """Say why a request is repeated."""
    rendering.say(f"waiting: {rendering.cause(reason)}")
