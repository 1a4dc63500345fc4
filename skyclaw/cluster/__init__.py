"""How coordinators replicate: the protocol of the logs, who holds copies of them, and who is in the network. Knows events, not jobs."""
