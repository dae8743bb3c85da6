"""Draw the pictures of the pages, from the recordings in data/reference or from runs that are simulated here.

python docs/pictures/draw.py
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, cast

import numpy as np
from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator
from scipy import stats

from chaoslab import plots
from chaoslab.analysis import analyse
from chaoslab.intervals import FEWEST_RUNS, korn_graubard, proportion, restricted_mean
from chaoslab.store import Campaign

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from numpy.typing import NDArray

HERE: Final = Path(__file__).parent
REFERENCE: Final = HERE.parents[1] / "data" / "reference"
_LINE: Final[dict[str, Any]] = {"lw": 1.8, "solid_capstyle": "butt"}
_SMALL: Final[dict[str, Any]] = {"size": plots.SMALL, "color": plots.INK}


def _note(ax: Axes, at: tuple[float, float], text: str, **look: Any) -> None:
    """Write `text` at seconds (or another value) across and a share of the height."""
    look = {"ha": "center", "va": "center"} | _SMALL | look
    ax.annotate(text, at, xycoords=("data", "axes fraction"), **look)


def _reach(ax: Axes, span: tuple[float, float], height: float) -> None:
    """Draw a double arrow over `span` of the axis, at a share of the height."""
    arrow = {"arrowstyle": "<->", "color": plots.MUTED, "lw": 1.0, "shrinkA": 0, "shrinkB": 0}
    across = ("data", "axes fraction")
    ax.annotate("", (span[1], height), (span[0], height), xycoords=across, textcoords=across, arrowprops=arrow)


def phases() -> Axes:
    """One run of the database's outage, as it was recorded: its phases, the outage, the recovery."""
    campaign = Campaign.open(REFERENCE / "fragile")
    result = analyse(campaign)["Database Brief Outage"]
    measured = result.runs[0]
    run = next(one for one in campaign.runs if (one.scenario, one.repeat) == (result.name, measured.repeat))
    outages = tuple((outage.began_us, outage.ended_us) for outage in measured.outages)
    drawn = plots.Series(run=run, rows=campaign.probes_of(run), outages=outages)
    ax = plots.figure(11.0, 4.4).subplots()
    plots.timeline([drawn], ax=ax, fault="", limits=(0.2, 5000))
    instants = (run.baseline_us, *outages[0], run.fault_over_us, run.finished_us)
    start, down, up, over, end = (drawn.since_origin(cast("int", instant)) for instant in instants)
    for middle, phase in ((start / 2, "baseline"), (over / 2, "injection"), ((over + end) / 2, "recovery")):
        _note(ax, (middle, 1.05), f"{phase} phase", size=plots.TEXT, weight="bold", annotation_clip=False)
    _note(ax, (-0.03, 0.80), "steady state is looked at,\nthe fault is injected", ha="right")
    _note(ax, (over + 0.9, 0.80), "the fault is reverted", ha="left")
    assert measured.recovery is not None
    back = over + measured.recovery.seconds
    _reach(ax, (over, back), 0.68)
    _note(ax, (back + 0.05, 0.68), f"recovery time {measured.recovery.seconds:.2f} s", ha="left")
    _reach(ax, (down, up), 0.58)
    _note(ax, (down + 1.0, 0.58), f"outage {measured.outages[0].seconds:.2f} s", va="bottom")
    ax.set_xlabel("seconds since the injection started", color=plots.MUTED, size=plots.SMALL)
    return ax


def _error_rates(random: np.random.Generator, runs: int, probes: int = 200) -> NDArray[np.int64]:
    """Return the failed probes of `runs`, whose true rates differ: 5 % on average, from 1 % to 14 % in most."""
    return random.binomial(probes, random.beta(2.0, 38.0, size=runs)).astype(np.int64)


def interval() -> Axes:
    """Twenty campaigns of one service: each has its interval, and about one in twenty misses the truth."""
    random = np.random.default_rng(7)
    ax = plots.figure(11.0, 3.8).subplots()
    for place in range(20):
        failed = _error_rates(random, 5)
        low, high = _over_runs(failed)
        mark, colour = ("o", plots.BLUE) if low <= 5 <= high else ("X", plots.ORANGE)
        ax.plot([place + 1] * 2, [low, high], color=colour, **_LINE)
        ax.plot([place + 1], [failed.sum() / 10], mark, ms=6, color=colour)
    ax.axhline(5, color=plots.INK, lw=1.2, ls=(0, (4, 2)))
    ax.annotate("the truth,\nwhich nobody\nsees", (1.005, 5), xycoords=("axes fraction", "data"), va="center", **_SMALL)
    plots.plain(ax)
    ax.xaxis.set_major_locator(FixedLocator(range(1, 21)))
    ax.set_ylim(0, None)
    ax.set_xlabel("twenty campaigns of five runs each", color=plots.MUTED, size=plots.SMALL)
    ax.set_ylabel("error rate, %", color=plots.MUTED, size=plots.SMALL)
    return ax


def unit() -> Axes:
    """The same five runs, counted by probes and by runs; and how often either interval holds the truth."""
    random = np.random.default_rng(2)
    campaigns = [_error_rates(random, 5) for _ in range(1000)]
    failed = campaigns[0]
    ax = plots.row_figure(1.9, left=2.6, right=3.4).subplots()
    ax.plot(failed / 2, [0] * 5, "|", ms=14, mew=2.2, color=plots.BLUE)
    methods = ((_over_probes, plots.ORANGE), (_over_runs, plots.BLUE))
    for place, (method, colour) in enumerate(methods, start=1):
        held = np.mean([low <= 5 <= high for low, high in map(method, campaigns)])
        ax.plot(method(failed), [place] * 2, color=colour, **_LINE)
        ax.plot([failed.sum() / 10], [place], "o", ms=7, color=colour)
        plots.words_of_row(ax, place, f"holds the truth in {100 * held:.0f} % of 1,000 campaigns")
    plots.named_rows(ax, ["error rate of each run", "1,000 probes, as if unrelated", "five runs"])
    ax.axvline(5, color=plots.INK, lw=1.2, ls=(0, (4, 2)))
    _note(ax, (5, 1.06), "the truth", annotation_clip=False)
    ax.set_xlim(0, None)
    ax.set_xlabel("error rate, %", color=plots.MUTED, size=plots.SMALL)
    return ax


def _over_probes(failed: NDArray[np.int64]) -> tuple[float, float]:
    """Return the interval in percent that takes the 1,000 probes of five runs as unrelated (Clopper–Pearson)."""
    low, high = korn_graubard(failed.sum() / 1000, trials=1000, runs=1000)
    return 100 * low, 100 * high


def _over_runs(failed: NDArray[np.int64]) -> tuple[float, float]:
    """Return the interval in percent that chaoslab gives."""
    found = proportion(failed, np.full(5, 200), trials=1000)
    return cast("float", found.low), cast("float", found.high)


def censored() -> Axes:
    """Recoveries of five runs, one of which was not seen to end."""
    seconds, cut = np.array([1.4, 3.0, 1.7, 2.9, 8.0]), np.array([False, False, False, False, True])
    ax = plots.figure(11.0, 3.0).subplots()
    for place, (length, open_) in enumerate(zip(seconds, cut, strict=True)):
        colour = plots.ORANGE if open_ else plots.BLUE
        ax.plot([0, length], [place] * 2, color=colour, lw=4, solid_capstyle="butt")
        ax.plot([length], [place], ">" if open_ else "o", ms=8, color=colour, clip_on=False)
        words = "not back when the probes ended: more than 8 s" if open_ else f"{length:g} s"
        if open_:
            _note(ax, (5.6, 0.18), words)
        else:
            ax.annotate(words, (length, place), (10, 0), textcoords="offset points", va="center", **_SMALL)
    plots.named_rows(ax, [f"repeat {repeat}" for repeat in range(1, 6)])
    for value, words, place, side in (
        (seconds[~cut].mean(), "mean without repeat 5", "right", -0.06),
        (cast("float", restricted_mean(seconds, cut).value), "at least this", "left", 0.06),
    ):
        ax.axvline(value, color=plots.INK, lw=1.0, ls=(0, (4, 2)), zorder=0)
        _note(ax, (value + side, 1.05), f"{words}: {value:.2f} s", ha=place, annotation_clip=False)
    ax.set_xlim(0, 8)
    ax.set_xlabel("seconds since the fault was over; the recording ends at 8", color=plots.MUTED, size=plots.SMALL)
    return ax


def few() -> Axes:
    """How far a 95 % interval reaches for the same mean and spread, over the number of runs."""
    counts = np.array([2, 3, 4, 5, 6, 8, 10, 15, 20])
    reach = stats.t.ppf(0.975, counts - 1) / np.sqrt(counts)
    ax = plots.figure(11.0, 3.2).subplots()
    for place, (count, far) in enumerate(zip(counts, reach, strict=True)):
        given = count >= FEWEST_RUNS
        ax.plot([place] * 2, [-far, far], color=plots.BLUE if given else plots.ORANGE, ls="-" if given else ":", lw=2.2)
        ax.plot([place], [0], "o" if given else "D", ms=6, color=plots.BLUE if given else plots.ORANGE)
        ax.annotate(f"±{far:.1f}", (place, far), (0, 4), textcoords="offset points", ha="center", **_SMALL)
    ax.annotate("not given", (0, -4.5), (10, 0), textcoords="offset points", va="center", **_SMALL)
    plots.plain(ax)
    ax.set_ylim(-10, 11)
    ax.yaxis.set_major_locator(FixedLocator([-10, -5, 0, 5, 10]))
    ax.xaxis.set_major_locator(FixedLocator(range(len(counts))))
    ax.xaxis.set_major_formatter(FuncFormatter(lambda place, _: str(counts[int(place)])))
    ax.set_xlabel("runs", color=plots.MUTED, size=plots.SMALL)
    ax.set_ylabel("standard deviations\nof one run", color=plots.MUTED, size=plots.SMALL)
    return ax


def verdicts() -> Axes:
    """Pass, fail, inconclusive: where the interval lies, seen from the threshold."""
    estimates = [
        ("five repeats of a good build", proportion([2, 1, 3, 2, 1], [200] * 5, trials=1000), "pass"),
        ("five repeats of a bad build", proportion([24, 31, 22, 28, 35], [200] * 5, trials=1000), "fail"),
        ("three repeats of another", proportion([5, 12, 7], [200] * 3, trials=600), "inconclusive"),
        ("one repeat of it", proportion([5], [200], trials=200), "inconclusive"),
    ]
    rows = [plots.Row(label=label, estimate=found, outcome=outcome) for label, found, outcome in estimates]
    return plots.slo(rows, threshold=5, comparison="<=", unit="%", ax=plots.row_figure(2.1).subplots())


def same() -> Axes:
    """Four comparisons with a baseline, and what may be said of each."""
    rows = [
        ("the same", "the whole interval is within the margin", -0.3, 0.35, plots.GREEN, "o"),
        ("the same", "certain, and too small to matter", 0.2, 0.7, plots.GREEN, "o"),
        ("inconclusive", "no change was found, nor ruled out", -1.8, 2.2, plots.MUTED, "D"),
        ("worse", "chance does not explain it, and it is beyond the margin", 1.4, 3.4, plots.ORANGE, "X"),
    ]
    ax = plots.row_figure(2.3, left=1.6, right=4.4).subplots()
    ax.axvspan(-1, 1, color=plots.SHADE, lw=0, zorder=0)
    ax.axvline(0, color=plots.INK, lw=1.2, ls=(0, (4, 2)), zorder=1)
    for place, (_, words, low, high, colour, mark) in enumerate(rows):
        ax.plot([low, high], [place] * 2, color=colour, **_LINE)
        ax.plot([(low + high) / 2], [place], mark, ms=7, color=colour)
        plots.words_of_row(ax, place, words)
    plots.named_rows(ax, [answer for answer, *_ in rows])
    ax.set_xlim(-4, 4)
    ax.xaxis.set_minor_locator(NullLocator())
    ax.set_xlabel("← better · change, in margins · worse →", color=plots.MUTED, size=plots.SMALL)
    _note(ax, (0, 1.06), "does not matter", annotation_clip=False)
    return ax


PICTURES: Final[dict[str, Callable[[], Axes]]] = {
    made.__name__: made for made in (phases, interval, unit, censored, few, verdicts, same)
}


def draw(name: str) -> str:
    """Return the picture `name` as SVG; equal data give equal bytes. Its words in text stand on the page."""
    return plots.picture(PICTURES[name](), alt="").svg


def main() -> None:
    """Write every picture."""
    for name in PICTURES:
        (HERE / f"{name}.svg").write_text(draw(name), encoding="utf-8")


if __name__ == "__main__":
    main()
