"""Chooses where a request goes, and carries on when that place fails.

To add a policy, write `routing/policies/<name>.py` with a frozen dataclass `Policy` that has
`rank(call, options, draw) -> options`: synchronous, no I/O, the best first; and `weigh(call, options)`, the parts of
its judgement for `explain`. Its fields are its settings, its docstring is their manual, and `choose: {by: <name>}` in a
route finds it.

Routing knows the words, errors and protocols of `providers`, never a vendor, nor who is asking.
"""
