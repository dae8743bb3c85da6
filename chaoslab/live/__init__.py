"""A campaign as it stands, from the parts on disk: whoever watches never touches the prober, nor the runner.

`Reader` looks at the folder, `terminal` shows what it sees in a terminal, `notebook` as a figure.
"""

from __future__ import annotations

from chaoslab.live.reader import Reader, Standing

__all__ = ["Reader", "Standing"]
