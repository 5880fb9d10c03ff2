"""Edges of the histograms that targets are held against, in seconds: what a target may be is one of them.

Apart from the instruments, so that a configuration is checked without loading Prometheus.
"""

from __future__ import annotations

TTFT = (0.01, 0.02, 0.03, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.5, 0.75, 1, 1.5, 2, 3, 5, 10, 20, 40, 80)
"""Time to the first token."""
DURATION = (0.05, 0.1, 0.2, 0.5, 1, 2, 3, 5, 10, 20, 30, 60, 120, 300, 600)
"""Time to the end of the answer."""
