"""How long an upstream may take, and how much it may answer."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class GatewayLimits:
    """Seconds and bytes.

    The watchdog looks every `look_every_s`, so a deadline may be passed by that much.
    """

    connect_s: float = 2.0
    header_s: float = 10.0  # until the head of an answer is there, all attempts together; counted anew with each piece of a sent body
    patience_s: float = 5.0  # before another backend is tried instead of one that says nothing, if there is one
    answer_s: float = 30.0  # until the whole of a short answer is there
    stream_s: float = 300.0  # for a long answer
    stream_bytes: int = 1 << 30  # of any answer
    drip_s: float = 30.0  # within which a long answer must bring `drip_bytes`
    drip_bytes: int = 1024
    event_idle_s: float = 300.0  # within which an event stream must bring something; it has no other limit of time
    kept_s: float = 4.0  # for which a connection is kept without a request; most servers keep it for five seconds or more
    at_once: int = 112  # exchanges; fewer than the server has threads, so that some are left for health, and to refuse the rest
    request_bytes: int = 64 * 1024 * 1024  # of a request's body
    look_every_s: float = 0.25
