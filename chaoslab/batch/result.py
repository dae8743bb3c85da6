"""What came of one execution, and of all."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Any, Final

_URGENCY: Final = (6, 130, 143, 129, 5, 4, 2, 1, 3, 0)
"""Exit codes, the most urgent first: what is still broken, then what was cut short, then what was found."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """What came of one execution.

    `outcome` is what the notebook's answer says (pass, fail, worse …), or "" where it gives none; `strict_exit_code`
    counts its violations and regressions, `exit_code` only what went wrong. `error` is why it failed, or empty.
    """

    exit_code: int
    strict_exit_code: int
    outcome: str = ""
    says: str = ""
    error: str = ""
    seconds: float = 0.0
    executed: bool = True

    def as_dict(self) -> dict[str, Any]:
        """Return the fields as a JSON object."""
        return asdict(self)


def skipped(reason: str) -> Result:
    """Return the result of what was not executed."""
    return Result(exit_code=0, strict_exit_code=0, error=reason, executed=False)


def exit_code(results: Iterable[Result], *, strict: bool) -> int:
    """Return the most urgent exit code; with `strict`, violations and regressions count.

    >>> exit_code([Result(exit_code=0, strict_exit_code=3), Result(exit_code=0, strict_exit_code=1)], strict=True)
    1
    """
    codes = {result.strict_exit_code if strict else result.exit_code for result in results} | {0}
    return min(codes, key=lambda code: _URGENCY.index(code) if code in _URGENCY else -1)
