"""Be a child: run one target, or stay and answer requests for it."""

import sys
from pathlib import Path

from annotator.jobs import child

if sys.argv[1] == "--worker":
    child.serve(sys.argv[2], Path(sys.argv[3]))
else:
    child.main(sys.argv[1], Path(sys.argv[2]))
