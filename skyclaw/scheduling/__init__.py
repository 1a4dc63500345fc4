"""Jobs, hosts and leases: who may run what, when, and what follows from it. Pure."""
