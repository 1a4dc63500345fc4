"""What a host decides: what to run for a payload, what to report of it, and when a lease is no longer its own. Pure."""
