"""Several pieces of evidence as one: commands that look at the same fault from different sides.

    python -m chaoslab.agent.together '["PROGRAM", "ARGUMENT"]' '["PROGRAM"]'

runs them at the same time and prints what they print, JSON objects with keys of their own, as one object. It exits 0
when all of them did, else as the first that did not.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Sequence


def main(argv: Sequence[str]) -> int:
    """Print the union of what the commands say."""
    commands = [json.loads(argument) for argument in argv]
    running = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for command in commands]
    found: dict[str, object] = {}
    for process in running:
        said, _ = process.communicate()
        found |= json.loads(said) if said.strip() else {}
    print(json.dumps(found))
    return next((process.returncode for process in running if process.returncode), 0)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
