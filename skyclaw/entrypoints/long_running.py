"""The verbs that become a process: they read its settings, set up its log, and are it until a signal comes."""

from collections.abc import Sequence

from skyclaw.entrypoints import process_log, rendering
from skyclaw.entrypoints.gateway_settings import gateway_settings
from skyclaw.entrypoints.session import Session
from skyclaw.entrypoints.settings import coordinator_settings, host_settings


def coordinator(session: Session, words: Sequence[str], json: bool = False) -> int:  # noqa: ARG001
    """Be a coordinator."""
    settings = coordinator_settings(session.environ)
    rendering.warn(settings.warnings)
    process_log.set_up("json" if json else settings.log)
    from skyclaw.entrypoints.coordinator import run_coordinator

    return run_coordinator(settings)


def host(session: Session, words: Sequence[str], json: bool = False) -> int:  # noqa: ARG001
    """Be a host."""
    settings = host_settings(session.environ)
    rendering.warn(settings.warnings)
    process_log.set_up("json" if json else settings.log)
    from skyclaw.entrypoints.host import run_host

    return run_host(settings)


def gateway(session: Session, words: Sequence[str], json: bool = False, print_config: str | None = None) -> int:  # noqa: ARG001
    """Be a gateway, or only show how another program would be one."""
    settings = gateway_settings(session.environ)
    rendering.warn(settings.warnings)
    if print_config is not None:
        from skyclaw.entrypoints.gateway_configs import show_config

        return show_config(session.coordinators, settings, print_config)
    process_log.set_up("json" if json else settings.log)
    if settings.workers > 1:
        from skyclaw.entrypoints.gateway_workers import run_workers

        return run_workers(settings)
    from skyclaw.entrypoints.gateway import run_gateway

    return run_gateway(settings)
