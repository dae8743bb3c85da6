"""How much of a network fault was delivered: what requests, counters and frames of our own show, beside what was asked.

- Requests that cross the fault (`chaoslab.agent.crossing`) show a delay, where nothing else disturbs them.
- Counters of the kernel show a loss: of the target's own packets.
- Frames of our own through the same emulator (`chaoslab.agent.frames`) show what no counter does: duplicates, changed
  bits, packets that overtook others, how the delay varies, the rate; and the delay where requests would be disturbed.

Each share is judged by the interval that chance allows for so many packets (`shares`).
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Final

from chaoslab.faults import shares
from chaoslab.faults.base import Injection, Reading
from chaoslab.faults.impairment import Impairment, NetworkLatency
from chaoslab.faults.shares import Share
from chaoslab.faults.timing import burst, charged_bytes, delay_trials, shape_of, spread_ms
from chaoslab.journal import Step
from chaoslab.records import Dose

_EFFECT_SHARE: Final = 0.7
_FEW_PACKETS: Final = 50
_FEW_FRAMES: Final = 3
_WIDTH: Final = 2.58
"""Standard errors that 99 % of a mean's estimates keep within."""

_MEDIAN_WIDTH: Final = 1.25 * _WIDTH
_LARGE_PACKET_BITS: Final = 12_000


def crossed(asked: Impairment) -> bool:
    """Whether requests to the target show the delay.

    They do not where it hits other packets than the target's, and where packets are lost, queued or out of order they
    show TCP's repairs too.
    """
    disturbed = asked.loses or _shown_by_frames_alone(asked)
    return bool(asked.delay_ms) and not disturbed and asked.address is None and asked.port is None


def framed(asked: Impairment) -> bool:
    """Whether frames of our own are needed to measure what is asked."""
    return bool(asked.jitter_ms or _shown_by_frames_alone(asked) or (asked.delay_ms and not crossed(asked)))


def _shown_by_frames_alone(asked: Impairment) -> bool:
    return bool(asked.duplicate_percent or asked.corrupt_percent or asked.reorder_percent or asked.rate_kbit)


def emulating(asked: Impairment, *, mechanism: str, steps: tuple[Step, ...], counted: str) -> Injection:
    """Return the injection of all that is asked; `steps` have the evidence that `crossed` and `framed` ask for.

    It takes effect with the first of the target's packets: an emulator that none of them meets is no fault.
    """

    def took_effect(readings: Sequence[Reading]) -> bool:
        if readings[-1].exit_code != 0:
            return False
        if crossed(asked) and not _slower(readings, asked.delay_ms * len(asked.directions)):
            return False
        return not (framed(asked) or asked.loses) or _met(readings) > 0

    def doses(readings: Sequence[Reading]) -> tuple[Dose, ...]:
        return tuple(_doses(asked, readings, counted, mechanism))

    return Injection(mechanism=mechanism, steps=steps, took_effect=took_effect, doses=doses)


def losing(
    share: Share,
    *,
    mechanism: str,
    steps: tuple[Step, ...],
    counted: str,
    quantity: str = "packets dropped on the way to the target",
) -> Injection:
    """Return an injection whose evidence is counters, {"seen", "dropped"}, that start at 0 with the fault.

    It takes effect with the first packet: a rule that no packet meets is no fault. `counted` says what counts.
    """

    def took_effect(readings: Sequence[Reading]) -> bool:
        return readings[-1].exit_code == 0 and int(readings[-1].data.get("seen", 0)) > 0

    def doses(readings: Sequence[Reading]) -> tuple[Dose, ...]:
        last = readings[-1].data if readings[-1].exit_code == 0 else {}
        asked = 100 * share.value
        seen, dropped = int(last.get("seen", 0)), int(last.get("dropped", 0))
        return (loss_dose(share, asked, seen, dropped, counted, mechanism, quantity),)

    return Injection(mechanism=mechanism, steps=steps, took_effect=took_effect, doses=doses)


def loss_dose(
    share: Share,
    asked: float,
    seen: int,
    dropped: int,
    counted: str,
    mechanism: str,
    quantity: str = "packets dropped on the way to the target",
) -> Dose:
    """Return the share of packets that was dropped, in percent, beside what chance allows for so many packets."""
    how = f"by {counted}; the kernel's random numbers take no seed"
    return _share_dose(quantity, asked, share, (dropped, seen, "packets"), how, mechanism)


def _share_dose(
    quantity: str, asked: float, share: Share, counts: tuple[int, int, str], how: str, mechanism: str
) -> Dose:
    """Return the dose of a share; `counts` are how many were hit, of how many, of what."""
    hit, count, what = counts
    low, high = share.interval(count)
    notes = [f"{hit} of {count} {what}, {how}"]
    if not math.isclose(100 * share.value, asked, rel_tol=1e-6):
        notes.append(f"asked as it is, netem hits {100 * share.value:.3g} % in the long run")
    if share.trials(count) < count:
        notes.append(f"they follow each other as {share.trials(count)} independent ones would")
    if count < _FEW_PACKETS:
        notes.append(f"only {count} {what}, so that chance alone allows {low:.0%} to {high:.0%}")
    return Dose(
        quantity=quantity,
        unit="%",
        asked=asked,
        delivered=100 * hit / count if count else None,
        low=100 * low,
        high=100 * high,
        how="; ".join(notes),
        mechanism=mechanism,
    )


def added_ms(readings: Sequence[Reading]) -> float | None:
    """Return by how much the last reading's round trip is longer than the first one's, in ms."""
    before, now = readings[0].data.get("rtt_ms"), readings[-1].data.get("rtt_ms")
    return None if before is None or now is None else float(now) - float(before)


def _slower(readings: Sequence[Reading], asked_ms: float) -> bool:
    added = added_ms(readings)
    return added is not None and added >= _EFFECT_SHARE * asked_ms


def delay_injection(scenario: NetworkLatency, mechanism: str, steps: tuple[Step, ...]) -> Injection:
    """Return the injection of a plain delay whose last step's evidence is `chaoslab.agent.crossing`."""
    return emulating(scenario.parameters, mechanism=mechanism, steps=steps, counted="")


def _doses(asked: Impairment, readings: Sequence[Reading], counted: str, mechanism: str) -> Iterator[Dose]:
    last = readings[-1].data if readings[-1].exit_code == 0 else {}
    sums = _sums(readings)
    if crossed(asked):
        yield _delay_of_requests(asked, readings, mechanism)
    elif asked.delay_ms:
        yield _delay_of_frames(asked, sums, mechanism)
    if asked.jitter_ms:
        yield _jitter(asked, sums, mechanism)
    if asked.loses:
        seen, dropped = (int(last.get(f"{name}_after", last.get(name, 0))) for name in ("seen", "dropped"))
        how = f"{counted}, frames of our own included" if framed(asked) else counted
        yield loss_dose(shares.dropped(asked), loss_asked(asked), seen, dropped, how, mechanism)
    for quantity, key, share, hit, count in _BY_FRAMES:
        if wanted := getattr(asked, key):
            counts = (sums[hit], sums[count], "frames of our own")
            yield _share_dose(quantity, wanted, share(asked), counts, "which took the same emulator", mechanism)
    if asked.rate_kbit:
        yield _rate(asked, last, mechanism)


_BY_FRAMES: Final[tuple[tuple[str, str, Callable[[Impairment], Share], str, str], ...]] = (
    ("packets that arrive twice", "duplicate_percent", shares.doubled, "twice", "sent"),
    ("packets that arrive changed", "corrupt_percent", shares.corrupted, "altered", "copies"),
    ("packets that skip the delay", "reorder_percent", shares.reordered, "early", "alone"),
)


def loss_asked(asked: Impairment) -> float:
    """Return the loss that is asked for, in percent: of a model, that of its long run."""
    return asked.loss_percent or 100 * shares.loss(asked).value


def _sums(readings: Sequence[Reading]) -> Counter[str]:
    """Return what the readings say of frames, added up."""
    sums: Counter[str] = Counter()
    for reading in readings:
        if reading.exit_code == 0 and "sent" in reading.data:
            sums.update({name: reading.data[name] for name in _SUMMED})
    return sums


_SUMMED: Final = ("sent", "arrived", "twice", "copies", "altered", "alone", "early", "delays", "delay_ms", "delay_ms2")


def _met(readings: Sequence[Reading]) -> int:
    """Return how many packets not ours came to the emulators: what the counters grew by between our volleys."""
    met, counted = 0, 0
    for reading in readings:
        if reading.exit_code == 0 and "seen" in reading.data:
            met += int(reading.data["seen"]) - counted
            counted = int(reading.data.get("seen_after", reading.data["seen"]))
    return met


def _delay_of_requests(asked: Impairment, readings: Sequence[Reading], mechanism: str) -> Dose:
    ways, requests = len(asked.directions), readings[-1].data.get("requests", 0)
    wanted = asked.delay_ms * ways
    slack = _MEDIAN_WIDTH * spread_ms(asked) * math.sqrt(ways / delay_trials(asked, requests))
    lower_median = ways * asked.jitter_ms * -shape_of(asked).median
    both = ", on their way there and back" if ways > 1 else ""
    return Dose(
        quantity="delay added",
        unit="ms",
        asked=wanted,
        delivered=added_ms(readings),
        low=wanted * 0.95 - 2.0 - slack - lower_median,
        # Above, what the target and this machine add under load is in it too.
        high=wanted * 1.10 + 5.0 + slack,
        how=f"median round trip of requests that cross the fault{both}, against the same just before it",
        mechanism=mechanism,
    )


def _delay_of_frames(asked: Impairment, sums: Mapping[str, float], mechanism: str) -> Dose:
    count = int(sums["delays"])
    shift = asked.jitter_ms * shape_of(asked).mean
    queue = _LARGE_PACKET_BITS * 3 / asked.rate_kbit if asked.rate_kbit else 0.0
    slack = _WIDTH * spread_ms(asked) / math.sqrt(delay_trials(asked, count))
    return Dose(
        quantity="delay of each packet",
        unit="ms",
        asked=asked.delay_ms,
        delivered=sums["delay_ms"] / count if count else None,
        low=asked.delay_ms * 0.95 - 2.0 + shift - slack,
        high=asked.delay_ms * 1.10 + 5.0 + shift + slack + queue,
        how=f"mean of {count} frames of our own, which took the same emulator",
        mechanism=mechanism,
    )


def _jitter(asked: Impairment, sums: Mapping[str, float], mechanism: str) -> Dose:
    count, wanted = int(sums["delays"]), spread_ms(asked)
    slack = 1.5 * _WIDTH * wanted / math.sqrt(delay_trials(asked, count))
    mean = sums["delay_ms"] / count if count else 0.0
    return Dose(
        quantity="standard deviation of the delay",
        unit="ms",
        asked=wanted,
        delivered=math.sqrt(max(0.0, sums["delay_ms2"] / count - mean**2)) if count >= _FEW_FRAMES else None,
        # A delay that would be negative is none: of a wide jitter some of the spread is cut off.
        low=0.8 * wanted - 0.5 - slack,
        high=1.2 * wanted + 3.0 + slack,
        how=f"of {count} frames of our own, which took the same emulator; asked: a jitter of {asked.jitter_ms:g} ms, "
        f"{asked.delay_distribution or 'uniform'}",
        mechanism=mechanism,
    )


def _rate(asked: Impairment, last: Mapping[str, Any], mechanism: str) -> Dose:
    size, _ = burst(asked)
    wanted = asked.rate_kbit * size / charged_bytes(asked, size)
    return Dose(
        quantity="rate",
        unit="kbit/s",
        asked=asked.rate_kbit,
        delivered=None if last.get("kbit") is None else last["kbit"] * asked.rate_kbit / wanted,
        low=asked.rate_kbit * 0.85,
        high=asked.rate_kbit * 1.05,
        how="of a burst of frames of our own through the same emulator, with the overheads that were asked",
        mechanism=mechanism,
    )
