"""Recordings of other tools, read into campaign folders (`chaoslab import`); a file for each tool.

formats     which there are, and which one a file looks like
source      files, line by line, in bounded memory
spool       probes in order of when they were sent
window      when the fault acted
importing   all of it, into a folder
"""

from chaoslab.foreign.importing import Imported, Request, import_recordings
from chaoslab.foreign.window import Window

__all__ = ["Imported", "Request", "Window", "import_recordings"]
