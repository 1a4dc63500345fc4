"""A whole network in one thread: real nodes, virtual time, a hostile network, disks that lag behind, hosts and clients; all from a seed."""
