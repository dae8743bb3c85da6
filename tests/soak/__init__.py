"""An hour of faults that come and go, and a look at what it leaves: memory, descriptors, rows.

    python -m tests.soak --minutes 60 --rate 100 --seed 1        (`make soak`)

The embedded shop is served by `chaoslab demo --serve`, and two `chaoslab run` look at it at the same time, each at
`rate` probes a second:

    faults   many short runs: every kind of fault that the machine can give, in turn, each with instruments of its own
    watch    one control run that lasts as long, so that one prober and one sampler live through all of it

An instrument lives only as long as its run. So the first shows what run after run leaves in the tool and in its
guardian, and the second what probe after probe leaves in the instruments. The faults of the first are seen by the
second: its prober meets refusals, time-outs and broken connections the whole time.

Judged are:

- memory of every process that lives from the beginning to the end: medians of each minute after the warm-up (a sixth
  of the time), their slope by Theil and Sen with its 95 % interval; it passes when the whole interval is below 1 MB an
  hour, fails when the whole interval is above, and is inconclusive otherwise. Neighbouring minutes are not independent,
  so that the interval is rather too narrow. Huge pages are off for what is measured;
- descriptors, threads and zombies of the same processes: from the first half to the second (after the warm-up) the
  least number and the median have not both become more;
- rows: every run that was planned is there and has its reason if it did not deliver; in every run the probes count from
  0 without a gap, stand at their instants, reach from the baseline to the end, are as many as the prober says, lie in
  one file, and none was dropped; the same for the resources;
- the machine: processes, temporary files, state, rules and queues of the network are those from before.

With root it all happens in a network namespace of its own. Exit code: 0 all passed, 1 something failed, 3 a slope is
inconclusive. Too short a soak has no slopes: it is judged by the rest.
"""
