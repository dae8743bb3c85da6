"""The commands that put tc-netem(8) in the way of packets, in its own words.

On the way out a tree of ours stands at the interface's root: two bands, of which only the packets that are to be hit
take the second one, that of the emulator; everything else takes the first one, a plain queue. What comes in is led by a
filter to a device of ours (ifb) and its emulator; the filter stands beside whatever stands there. On loopback, all that
comes in has gone out by it before: there the tree sees both ways.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from chaoslab.agent.frames import ETHERTYPE
from chaoslab.agent.netem import device_of, number_of
from chaoslab.faults import doses
from chaoslab.faults.impairment import FourStates, GilbertElliott, Impairment
from chaoslab.faults.traffic import SAMPLE, Network, Traffic, Way, flows, is_anywhere

FIRST_HANDLE: Final = 0x7C00

_MOST_PACKETS_HELD: Final = 100_000
"""The emulator drops what it cannot hold; its default of 1,000 packets is soon reached, and nobody asked for that."""

_MATCHES: Final = {
    # tc's name of the protocol, and the matches' name
    4: ("ip", "ip"),
    6: ("ipv6", "ip6"),
}
_PROTOCOLS: Final = {"tcp": "6", "udp": "17"}
_FRAMES_PREFERENCE: Final = "9"

Named = tuple[str, Sequence[str]]


@dataclass(frozen=True, slots=True)
class Place:
    """Where the packets that are hit pass: an interface, and emulators of ours that are known by the tree's handle.

    `hooked` says that somebody has a hook for what comes in already: our filter goes beside theirs.
    """

    interface: str
    handle: str
    directions: tuple[Way, ...]
    hooked: bool = False

    @property
    def tree(self) -> tuple[Way, ...]:
        """The ways that pass the interface's root."""
        return self.directions if self.interface == "lo" else tuple(way for way in self.directions if way == "egress")

    @property
    def aside(self) -> bool:
        """Whether what comes in is led aside, to a device of ours."""
        return len(self.tree) < len(self.directions)

    @property
    def band(self) -> str:
        """The tree's band of the emulator."""
        return f"{self.handle}2"

    @property
    def emulator(self) -> str:
        """The handle of the emulators: the one after the tree's."""
        return f"{number_of(self.handle) + 1:x}:"

    @property
    def hook(self) -> tuple[str, ...]:
        """How tc is told where a filter of what comes in goes."""
        return ("dev", self.interface, "ingress") if self.hooked else ("block", str(number_of(self.handle)))


def commands(hit: Traffic, place: Place, asked: Impairment) -> Iterator[Named]:
    """Yield the commands, each with its name; packets are hit from the last ones on."""
    words = emulation(asked)
    if place.aside:
        yield from _device(place, words)
    if place.tree:
        yield from _tree(place, words)
        if doses.framed(asked):
            yield "the way of our own frames", (*_into_tree(place), *_any_frame(), "flowid", place.band)
        for network, protocol in flows(hit):
            for way in place.tree:
                match = _match(hit, network, protocol, way)
                yield f"the {way} of {_named(hit, network)}", (*_into_tree(place), *match, "flowid", place.band)
    if place.aside:
        yield from _redirections(hit, place)


def trial(asked: Impairment, *, aside: bool) -> Iterator[Named]:
    """Yield commands that need of the kernel what `asked` needs, for a namespace that has a loopback interface only.

    `aside` says that what comes in will be led aside, by a device of ours.
    """
    everything = Place("lo", f"{FIRST_HANDLE:x}:", asked.directions)
    yield from commands(SAMPLE, everything, asked)
    if aside:
        yield from _device(everything, emulation(asked))
        yield from _redirections(SAMPLE, everything)


def _named(hit: Traffic, network: Network) -> str:
    return str(Traffic((network,), hit.port))


def _tree(place: Place, words: Sequence[str]) -> Iterator[Named]:
    add = ("tc", "qdisc", "add", "dev", place.interface)
    bands = ("prio", "bands", "2", "priomap", *("0" * 16))
    yield f"bands on {place.interface}", (*add, "root", "handle", place.handle, *bands)
    yield (
        f"{' '.join(words)} on {place.interface}",
        (*add, "parent", place.band, "handle", place.emulator, *_netem(words)),
    )


def _netem(words: Sequence[str]) -> tuple[str, ...]:
    return ("netem", "limit", str(_MOST_PACKETS_HELD), *words)


def _into_tree(place: Place) -> tuple[str, ...]:
    return ("tc", "filter", "add", "dev", place.interface, "parent", place.handle)


def _any_frame() -> tuple[str, ...]:
    return ("protocol", f"{ETHERTYPE:#x}", "pref", _FRAMES_PREFERENCE, "u32", "match", "u32", "0", "0")


def _device(place: Place, words: Sequence[str]) -> Iterator[Named]:
    device = device_of(place.handle)
    yield f"device {device}", ("ip", "link", "add", device, "type", "ifb")
    yield f"{device} up", ("ip", "link", "set", device, "up")
    yield (
        f"{' '.join(words)} on {device}",
        ("tc", "qdisc", "add", "dev", device, "root", "handle", place.emulator, *_netem(words)),
    )


def _redirections(hit: Traffic, place: Place) -> Iterator[Named]:
    """Yield what leads packets that come in to our device; a hook that we make carries a number of ours."""
    number = str(number_of(place.handle))
    if not place.hooked:
        make = ("tc", "qdisc", "add", "dev", place.interface, "ingress_block", number, "clsact")
        yield f"a hook for what comes in by {place.interface}", make
    for network, protocol in flows(hit):
        preference = number_of(place.handle) + (network.version == 6)
        match = _match(hit, network, protocol, "ingress", preference=preference)
        lead = ("action", "mirred", "egress", "redirect", "dev", device_of(place.handle))
        yield f"the ingress of {_named(hit, network)}", ("tc", "filter", "add", *place.hook, *match, *lead)


def _match(
    hit: Traffic, network: Network, protocol: str | None, way: Way, preference: int | None = None
) -> tuple[str, ...]:
    name, prefix = _MATCHES[network.version]
    far, port = hit.sides(way)
    conditions: list[tuple[str, ...]] = [] if is_anywhere(network) else [(prefix, far, str(network))]
    if protocol is not None:
        conditions.append((prefix, "protocol", _PROTOCOLS[protocol], "0xff"))
    if hit.port is not None:
        conditions.append((prefix, "sport" if port == "src" else "dport", str(hit.port), "0xffff"))
    matches = (word for condition in conditions or [("u32", "0", "0")] for word in ("match", *condition))
    # One preference may hold only one protocol.
    return ("protocol", name, "pref", str(preference or network.version), "u32", *matches)


def emulation(asked: Impairment) -> tuple[str, ...]:
    """Return what netem is told to do.

    >>> " ".join(emulation(Impairment(delay_ms=50, jitter_ms=5, delay_distribution="normal", loss_percent=1)))
    'delay 50ms 5ms distribution normal loss random 1%'
    """
    effects = (_delay(asked), _loss(asked), _duplicate(asked), _corrupt(asked), _reorder(asked), _rate(asked))
    return tuple(word for words in effects for word in words)


def _percent(*values: float) -> tuple[str, ...]:
    """Return percentages; the last ones may be left out where they are 0."""
    kept = list(values)
    while len(kept) > 1 and not kept[-1]:
        kept.pop()
    return tuple(f"{value:.6g}%" for value in kept)


def _delay(asked: Impairment) -> tuple[str, ...]:
    if not asked.delay_ms:
        return ()
    words = ["delay", f"{asked.delay_ms:g}ms"]
    if asked.jitter_ms:
        words.append(f"{asked.jitter_ms:g}ms")
    if asked.delay_correlation_percent:
        words.extend(_percent(asked.delay_correlation_percent))
    if asked.delay_distribution not in (None, "uniform"):  # uniform is what there is without a table
        words += ["distribution", str(asked.delay_distribution)]
    return tuple(words)


def _loss(asked: Impairment) -> tuple[str, ...]:
    if isinstance(asked.loss_gemodel, GilbertElliott):
        return ("loss", "gemodel", *(f"{value:.6g}%" for value in asked.loss_gemodel.model_dump().values()))
    if isinstance(asked.loss_state, FourStates):
        return ("loss", "state", *(f"{value:.6g}%" for value in asked.loss_state.model_dump().values()))
    return _chance("loss random", asked.loss_percent, asked.loss_correlation_percent)


def _chance(name: str, percent: float, correlation: float) -> tuple[str, ...]:
    return (*name.split(), *_percent(percent, correlation)) if percent else ()


def _duplicate(asked: Impairment) -> tuple[str, ...]:
    return _chance("duplicate", asked.duplicate_percent, asked.duplicate_correlation_percent)


def _corrupt(asked: Impairment) -> tuple[str, ...]:
    return _chance("corrupt", asked.corrupt_percent, asked.corrupt_correlation_percent)


def _reorder(asked: Impairment) -> tuple[str, ...]:
    words = _chance("reorder", asked.reorder_percent, asked.reorder_correlation_percent)
    return (*words, "gap", str(asked.reorder_gap)) if words and asked.reorder_gap > 1 else words


def _rate(asked: Impairment) -> tuple[str, ...]:
    if not asked.rate_kbit:
        return ()
    extra = [asked.rate_packet_overhead_bytes, asked.rate_cell_bytes, asked.rate_cell_overhead_bytes]
    while extra and not extra[-1]:
        extra.pop()
    return ("rate", f"{asked.rate_kbit:.6g}kbit", *map(str, extra))
