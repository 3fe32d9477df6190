"""What one process holds open: projects, jobs, swaps, improvements, payoffs, look-ahead, uploads. Knows no browser."""

from annotator.workspace.improvements import Improvements
from annotator.workspace.jobs import Jobs, KeptFolder
from annotator.workspace.look_ahead import LookAhead
from annotator.workspace.payoffs import Payoffs
from annotator.workspace.swaps import EncoderSwap, EncoderSwaps
from annotator.workspace.uploads import Upload, Uploads
from annotator.workspace.workspace import Workspace, after_first_page, quick, workspace_of

__all__ = [
    "EncoderSwap",
    "EncoderSwaps",
    "Improvements",
    "Jobs",
    "KeptFolder",
    "LookAhead",
    "Payoffs",
    "Upload",
    "Uploads",
    "Workspace",
    "after_first_page",
    "quick",
    "workspace_of",
]
