"""What became of a service from campaign to campaign: the history of each scenario and metric, and where it changed.

The campaign is the unit here: runs of one campaign share its day, its host and its build, so that runs of different
days may not be thrown together. Each campaign counts as one value. Only what was measured alike stands in one history:
the newest campaign sets the measure, and those that differ from it are left out, with the reason.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from statistics import median
from typing import Any, Final
from urllib.parse import urlsplit

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy import stats

from chaoslab import changepoints, wording
from chaoslab.analysis import ESTIMATES, Analysis, analyse
from chaoslab.changepoints import Split
from chaoslab.errors import CampaignFolderError, UsageError, nearest, recognised
from chaoslab.intervals import LEVEL, Estimate
from chaoslab.scenario import Slo
from chaoslab.store import CAMPAIGN_FILE, Campaign
from chaoslab.wording import METRIC_NAMES, plural

WELCH: Final = "Welch's t over campaigns"
_PLANNED: Final = ("type", "duration", "parameters", "mechanism", "phases", "faults", "target", "host")
_REMARKS: Final = ("expected_impact", "recovery_time_expected")
_SHIFT_NOTE: Final = "the split was chosen where the difference is large: it is rather less than more"


@dataclass(frozen=True, slots=True, kw_only=True)
class Point:
    """One campaign in a history; `build` is the target's, where the target tells it."""

    campaign: str
    started_at: str
    build: str | None
    estimate: Estimate

    @property
    def level(self) -> float | None:
        """The value; where nothing had ended when the probes did, how far they saw; None without either."""
        return self.estimate.horizon if self.estimate.value is None else self.estimate.value


@dataclass(frozen=True, slots=True, kw_only=True)
class LeftOut:
    """A campaign, or one scenario of it, that stands in no history, and why; `scenario` is empty for all of them."""

    campaign: str
    scenario: str
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """A change of level: `campaign` is the first after it, `at` its place among the points with a value.

    `p` is adjusted for the length of the history and for all histories that were searched. `before` and `after` are
    the medians of the campaigns between this change and its neighbours; `shift` is the difference of their means.
    """

    at: int
    campaign: str
    started_at: str
    p: float
    before: float
    after: float
    shift: Estimate


@dataclass(frozen=True, slots=True, kw_only=True)
class History:
    """One metric of one scenario over campaigns, oldest first.

    `reason` says why no change could have been found in it, or is empty; `slo` is the objective of the newest.
    """

    scenario: str
    metric: str
    points: tuple[Point, ...]
    slo: Slo | None = None
    changes: tuple[Change, ...] = ()
    reason: str = ""

    @property
    def unit(self) -> str:
        """Unit of the metric."""
        return self.points[-1].estimate.unit

    @property
    def measured(self) -> tuple[Point, ...]:
        """The points that have a value, or a bound in its place."""
        return tuple(point for point in self.points if point.level is not None)

    def table(self) -> pd.DataFrame:
        """Return one row a point: campaign, started_at, build, value, low, high, unit, n, at_least.

        `at_least` marks a value that is a bound, since something had not ended when the probes did.
        """
        rows = [
            {
                "campaign": point.campaign,
                "started_at": point.started_at,
                "build": point.build,
                "value": point.level,
                "low": point.estimate.low,
                "high": point.estimate.high,
                "unit": point.estimate.unit,
                "n": point.estimate.n,
                "at_least": point.estimate.censored > 0,
            }
            for point in self.points
        ]
        return pd.DataFrame(rows).astype({"value": float, "low": float, "high": float})

    def changes_table(self) -> pd.DataFrame:
        """Return one row a change: place, campaign, p, before, after, words.

        `place` is the row of `table` that is the first after it.
        """
        rows = [
            (
                self.points.index(self.measured[change.at]),
                change.campaign,
                change.p,
                change.before,
                change.after,
                change_words(self, change),
            )
            for change in self.changes
        ]
        return pd.DataFrame(rows, columns=["place", "campaign", "p", "before", "after", "words"])


@dataclass(frozen=True, slots=True, kw_only=True)
class Trends:
    """All histories, what was left out of them, and the newest campaign with its analysis."""

    histories: tuple[History, ...]
    left_out: tuple[LeftOut, ...]
    newest: Campaign
    analysis: Analysis

    def history(self, scenario: str, metric: str) -> History:
        """Return the history of `metric` in `scenario`.

        Raises:
            UsageError: there is none.
        """
        for found in self.histories:
            if (found.scenario, found.metric) == (scenario, metric):
                return found
        names = [f"{found.scenario}: {found.metric}" for found in self.histories]
        asked = f"{scenario}: {metric}"
        raise UsageError(f"there is no history {asked!r}{nearest(asked, names)}; accepted: {', '.join(names)}")

    @property
    def scenarios(self) -> tuple[str, ...]:
        """Names of the scenarios that there are histories of."""
        return tuple(dict.fromkeys(found.scenario for found in self.histories))

    def table(self) -> pd.DataFrame:
        """Return one row a scenario, metric and campaign: the tables of all histories."""
        return pd.concat(
            [found.table().assign(scenario=found.scenario, metric=found.metric) for found in self.histories],
            ignore_index=True,
        )

    def words(self) -> pd.DataFrame:
        """Return one row a history as readers see it: campaigns, first and newest estimate, what changed."""
        return pd.DataFrame([_words(found) for found in self.histories])

    def as_dict(self) -> dict[str, Any]:
        """Return the trends as a JSON object."""
        return {
            "newest": self.newest.name,
            "histories": [asdict(found) | {"unit": found.unit} for found in self.histories],
            "left_out": [asdict(left) for left in self.left_out],
        }


def trends(
    folders: Sequence[Path | str] | Path | str, *, scenarios: Sequence[str] = (), metrics: Sequence[str] = ()
) -> Trends:
    """Return the histories over the campaigns in `folders`.

    Args:
        folders: campaigns, or folders that hold campaigns.
        scenarios: names; those of the newest campaign if empty.
        metrics: names in `analysis.ESTIMATES`; those that an SLO can name if empty.

    Raises:
        UsageError: a name that is not there.
        CampaignFolderError: no campaign can be analysed, or one that was named itself cannot.
    """
    wanted = recognised(metrics, ESTIMATES, "metric") or tuple(METRIC_NAMES)
    campaigns, left_out = find_campaigns(folders)
    analysed = []
    for campaign in campaigns:
        try:
            analysed.append((campaign, analyse(campaign)))
        except CampaignFolderError as error:
            left_out.append(LeftOut(campaign=campaign.name, scenario="", reason=str(error)))
    if not analysed:
        reasons = "; ".join(left.reason for left in left_out)
        raise CampaignFolderError(f"none of the campaigns can be analysed: {reasons}")
    newest, analysis = analysed[-1]
    there = [result.name for result in analysis.scenarios]
    names = recognised(scenarios, there, "scenario of the newest campaign", any_case=True) or tuple(there)
    gathered: dict[tuple[str, str], list[Point]] = {(name, metric): [] for name in names for metric in wanted}
    for campaign, found in analysed:
        for result in found.scenarios:
            if result.name not in names:
                continue
            reason = incomparable(newest.meta, campaign.meta, result.name)
            if reason:
                left_out.append(LeftOut(campaign=campaign.name, scenario=result.name, reason=reason))
                continue
            for metric in wanted:
                gathered[result.name, metric].append(_point(campaign, result.estimates[metric]))
    histories = [
        History(scenario=name, metric=metric, points=tuple(points), slo=analysis.objective(metric))
        for (name, metric), points in gathered.items()
    ]
    return Trends(histories=tuple(with_changes(histories)), left_out=tuple(left_out), newest=newest, analysis=analysis)


def find_campaigns(folders: Sequence[Path | str] | Path | str) -> tuple[list[Campaign], list[LeftOut]]:
    """Return the campaigns in `folders`, oldest first, and what there cannot be used.

    A folder is a campaign, or holds campaigns. A campaign that is still running is left out, and so is a second copy.

    Raises:
        CampaignFolderError: a folder that is neither.
    """
    folders = [folders] if isinstance(folders, (str, Path)) else folders
    found: dict[str, Campaign] = {}
    left_out: list[LeftOut] = []
    for path in dict.fromkeys(Path(folder).resolve() for folder in folders):
        for one in _campaign_folders(path):
            try:
                campaign = Campaign.open(one)
                _started(campaign)
            except CampaignFolderError as error:
                if one == path:
                    raise
                left_out.append(LeftOut(campaign=one.name, scenario="", reason=str(error)))
                continue
            if campaign.meta.get("status") == "running":
                left_out.append(LeftOut(campaign=campaign.name, scenario="", reason="still running, or cut off"))
            elif found.setdefault(_identity(campaign), campaign).path != campaign.path:
                reason = f"the same campaign as in {found[_identity(campaign)].path.name}"
                left_out.append(LeftOut(campaign=one.name, scenario="", reason=reason))
    if not found:
        reasons = "; ".join(left.reason for left in left_out)
        raise CampaignFolderError(f"no campaign can be used: {reasons}")
    return sorted(found.values(), key=lambda campaign: (_started(campaign), campaign.name)), left_out


def incomparable(reference: Mapping[str, Any], other: Mapping[str, Any], scenario: str) -> str:
    """Return why `scenario` of two campaigns was not measured alike, or an empty string.

    Compared are the target, the probe, what confirms a recovery, and the scenario as it was planned: its dose, its
    phases and its mechanism. The target's build may differ: that is what a history is about. What only one of the two
    has on record is not compared, or every new option of chaoslab would end all histories.

    Args:
        reference: `campaign.json` of the one that sets the measure.
        other: `campaign.json` of the other one.
        scenario: its name in both.
    """
    for what, one, another in _measures(reference, other, scenario):
        for name, found, measure in _differences(what, another, one):
            return f"{name} is {_shown(found)}, in the newest campaign {_shown(measure)}"
    return ""


def with_changes(histories: Sequence[History]) -> list[History]:
    """Return the histories with the changes that are claimed in them; all that are long enough are one family.

    >>> with_changes([])
    []
    """
    least = changepoints.fewest_values()
    levels = {
        place: [point.level or 0.0 for point in found.measured]
        for place, found in enumerate(histories)
        if len(found.measured) >= least
    }
    fewest = changepoints.fewest_values(max(1, len(levels)))
    splits = dict(zip(levels, changepoints.find_in_family(list(levels.values())), strict=True))
    return [
        replace(
            found,
            changes=tuple(_changes(found, splits.get(place, ()))),
            reason=_too_short(found, fewest if place in levels else least, len(levels) if place in levels else 1),
        )
        for place, found in enumerate(histories)
    ]


def change_words(history: History, change: Change) -> str:
    """Say what changed, by how much and with which campaign."""
    unit = history.unit
    verb = "rose" if change.after > change.before else "fell"
    span = f" {bounds}" if (bounds := wording.interval(change.shift)) else ""
    return (
        f"{verb} from {wording.quantity(change.before, unit)} to {wording.quantity(change.after, unit)} with "
        f"{change.campaign} (difference {wording.quantity(change.shift.value, unit)}{span}, p = {change.p:.2g})"
    )


def _campaign_folders(path: Path) -> Iterator[Path]:
    if (path / CAMPAIGN_FILE).exists():
        yield path
        return
    inside = sorted(file.parent for file in path.glob(f"*/{CAMPAIGN_FILE}")) if path.is_dir() else []
    if not inside:
        raise CampaignFolderError(
            f"{path} is not a campaign folder and holds none; accepted: campaign folders, or a folder that holds them"
        )
    yield from inside


def _identity(campaign: Campaign) -> str:
    return f"{campaign.name} {campaign.meta.get('started_at')}"


def _started(campaign: Campaign) -> datetime:
    found = campaign.meta.get("started_at")
    try:
        started = datetime.fromisoformat(str(found))
    except ValueError as error:
        raise CampaignFolderError(
            f"{campaign.path / CAMPAIGN_FILE}: started_at is {found!r}; accepted: a time such as "
            "2026-01-31T12:00:00+00:00"
        ) from error
    return started if started.tzinfo else started.replace(tzinfo=UTC)


def _point(campaign: Campaign, estimate: Estimate) -> Point:
    build = campaign.meta.get("target_build")
    return Point(
        campaign=campaign.name,
        started_at=str(campaign.meta["started_at"]),
        build=None if build is None else str(build),
        estimate=estimate,
    )


def _measures(reference: Mapping[str, Any], other: Mapping[str, Any], scenario: str) -> Iterator[tuple[str, Any, Any]]:
    """Yield what must be alike: its name, and its value in either campaign."""
    imported = [(meta.get("imported") or {}).get("format") for meta in (reference, other)]
    yield "the format imported from", imported[0], imported[1]
    yield "the schema version", reference.get("schema_version"), other.get("schema_version")
    here, there = _targets(reference, other)
    yield "the target", here, there
    one, another = (meta.get("probe") or {} for meta in (reference, other))
    yield "the probe", one.get("name"), another.get("name")
    yield "the probed path", _path(one), _path(another)
    yield "the probe rate in Hz", one.get("rate_hz"), another.get("rate_hz")
    yield "the probe's time-out in s", one.get("timeout_seconds"), another.get("timeout_seconds")
    for name in ("required_health_checks", "duration_scale"):
        yield name, reference.get(name), other.get(name)
    yield "the scenario", _planned(reference, scenario), _planned(other, scenario)


def _differences(name: str, one: Any, another: Any) -> Iterator[tuple[str, Any, Any]]:
    if isinstance(one, Mapping) and isinstance(another, Mapping):
        for key in sorted(one.keys() & another.keys()):
            yield from _differences(f"{name}.{key}", one[key], another[key])
    elif one != another:
        yield name, one, another


def _targets(reference: Mapping[str, Any], other: Mapping[str, Any]) -> tuple[Any, Any]:
    """Return the targets by name where both tell one, since a service may be met at another port each time."""
    names = reference.get("target_name"), other.get("target_name")
    return names if all(names) else (reference.get("target"), other.get("target"))


def _path(probe: Mapping[str, Any]) -> str:
    return urlsplit(str(probe.get("url", ""))).path


def _planned(meta: Mapping[str, Any], scenario: str) -> dict[str, Any]:
    entry = next((dict(entry) for entry in meta.get("scenarios", ()) if entry.get("name") == scenario), {})
    parameters = entry.get("parameters") or {}
    entry["parameters"] = {key: value for key, value in parameters.items() if key not in _REMARKS}
    return {key: entry[key] for key in _PLANNED if key in entry}


def _shown(value: object) -> str:
    text = repr(value) if isinstance(value, str) else str(value)
    return text if len(text) <= 80 else f"{text[:79]}…"


def _too_short(history: History, fewest: int, family: int) -> str:
    there = len(history.measured)
    if there >= fewest:
        return ""
    among = f" among {family} histories" if family > 1 else ""
    gaps = len(history.points) - there
    without = f" with a value ({gaps} without)" if gaps else ""
    return f"{plural(there, 'campaign')}{without}: a change{among} takes at least {fewest}"


def _changes(history: History, splits: Sequence[Split]) -> Iterator[Change]:
    points = history.measured
    edges = [0, *(split.at for split in splits), len(points)]
    for place, split in enumerate(splits):
        before, after = points[edges[place] : split.at], points[split.at : edges[place + 2]]
        yield Change(
            at=split.at,
            campaign=points[split.at].campaign,
            started_at=points[split.at].started_at,
            p=split.p,
            before=median(point.level or 0.0 for point in before),
            after=median(point.level or 0.0 for point in after),
            shift=_shift(before, after, history.unit),
        )


def _shift(before: Sequence[Point], after: Sequence[Point], unit: str) -> Estimate:
    """Return the difference of the means of two parts of a history; where values are only bounds it has no interval."""
    here, there = (np.array([point.level for point in part], dtype=float) for part in (before, after))
    found = Estimate(
        value=float(there.mean() - here.mean()), method=WELCH, n=len(here) + len(there), unit=unit, reason=_SHIFT_NOTE
    )
    if any(point.estimate.censored for point in (*before, *after)):
        return replace(found, reason="some of the values are only lower bounds")
    if _alike(here) and _alike(there):
        return replace(found, reason="all campaigns on either side gave the same value")
    if _alike(here) or _alike(there):  # Welch's test, where one of the variances is zero
        moved = there - here[0] if _alike(here) else there[0] - here
        bounds = stats.ttest_1samp(moved, 0.0).confidence_interval(LEVEL)
    else:
        bounds = stats.ttest_ind(there, here, equal_var=False).confidence_interval(LEVEL)
    return replace(found, low=float(bounds.low), high=float(bounds.high))


def _alike(levels: NDArray[np.float64]) -> bool:
    return bool(np.ptp(levels) <= 1e-9 * max(1.0, float(np.abs(levels).max())))


def _words(history: History) -> dict[str, str]:
    slo = history.slo
    first, newest = history.points[0], history.points[-1]
    return {
        "scenario": history.scenario,
        "metric": wording.short_name(history.metric),
        "campaigns": str(len(history.points)),
        "first": wording.estimate(first.estimate),
        "newest": wording.estimate(newest.estimate),
        "SLO": wording.objective(slo.comparison, slo.threshold, slo.unit) if slo else "",
        "what changed": "; ".join(change_words(history, change) for change in history.changes)
        or history.reason
        or "no change is shown",
    }
