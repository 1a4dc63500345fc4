"""Skyclaw: a decentralized server network for OpenClaw that anyone can run."""

__version__ = "0.1.0"
