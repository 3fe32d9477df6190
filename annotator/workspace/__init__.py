from annotator.workspace.jobs import Jobs, KeptFolder
from annotator.workspace.look_ahead import LookAhead
from annotator.workspace.swaps import EncoderSwap, EncoderSwaps
from annotator.workspace.uploads import Upload, Uploads
from annotator.workspace.workspace import Workspace, quick, workspace_of

__all__ = [
    "EncoderSwap",
    "EncoderSwaps",
    "Jobs",
    "KeptFolder",
    "LookAhead",
    "Upload",
    "Uploads",
    "Workspace",
    "quick",
    "workspace_of",
]
