"""The commands that faults are made of: what runs where the fault is, `python -m chaoslab.agent.NAME`.

They import nothing but the standard library and each other (what one of them needs beyond that, it imports where it is
used), so that they start in tens of milliseconds and can be sent to another machine as they are (`chaoslab.hosts`).
"""
