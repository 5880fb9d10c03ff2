"""`make bench`: what the gateway costs, beside a bare proxy of the same stack, nginx and no gateway at all.

`upstream` stands in for the vendors, `load` for the callers, `contenders` for what lies between; `scenarios` says what
is sent through them, `bars` what is asked of the figures, `report` and `plot` how they are told.
"""
