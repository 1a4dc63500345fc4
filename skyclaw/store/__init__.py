"""Where the event log lives: a small interface, an SQLite database behind it, and one in memory.

`event_log` says what every store does, `sqlite` and `memory` do it; `rebuild` and `archive` read states from any of them. The other
modules serve `sqlite`: `database` opens, `founding` makes, `inspection` looks before anything is written, `locking` keeps others out,
`tables` has the schema, `pages` reads a log piece by piece, `promises` keeps what this replica promised, `snapshots` saves and loads,
`failures` translates SQLite's errors.
"""
