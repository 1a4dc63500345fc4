"""The processes and the command line: the only place that reads the environment and wires the parts together."""
