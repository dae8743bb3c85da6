"""Is one campaign worse than another? Effects over runs, a gate with one chance of a false alarm, what is comparable.

effects          differences and ratios between two sets of runs, and tests that need no distribution
changes          the metrics that are compared, their margins, and how each becomes an effect
comparability    what makes a comparison refused, and what its reader must know
caveats          what the recordings themselves say against it
answers          better, same, worse or inconclusive
whole            a comparison of two campaigns
"""

from __future__ import annotations

from chaoslab.comparison.whole import NAMES, Cell, Comparison, Role, Scenario, compare, judge, regroup

__all__ = ["NAMES", "Cell", "Comparison", "Role", "Scenario", "compare", "judge", "regroup"]
