"""A proxy in front of the target, for faults that need no privileges; run by `python -m chaoslab.agent.proxy`.

`server` accepts and connects, `link` hands bytes on in both directions, `exchange` follows the requests among them,
`messages` says where an HTTP message ends, `toxics` are what is done to what passes, `control` reaches a proxy that
runs, `passage` sends a request of our own through it, and `command` is the command line.
"""
