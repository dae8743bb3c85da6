"""What measures while faults are at work, each in a process of its own.

`prober` looks at the target (`http_probe` and its like take the probes there) and `resources` samples the machine.
Both are an `instrument` to the parent, and leave their rows to a `recorder`.
"""
