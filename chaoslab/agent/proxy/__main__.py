"""Allows `python -m chaoslab.agent.proxy`."""

import sys

from chaoslab.agent.proxy.command import main

if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
