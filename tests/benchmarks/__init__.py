"""Measurements, not tests: `python -m tests.benchmarks` takes them all, `python -m tests.benchmarks enqueue depth` some of them.

Absolute figures move with the machine and with whatever else it does. So each of ours is taken in turns with the raw limit it is held
against, several times in the same run, and what is judged is the ratio. A subject is a module here with a function
`measure(stage) -> Iterator[Figure]`; `subjects.py` lists them.
"""
