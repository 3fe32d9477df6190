"""The views, in one import: main.py draws the page's frame before it waits for them."""

from annotator.ui import export as export
from annotator.ui import label as label
from annotator.ui import parts as parts
from annotator.ui import progress as progress
from annotator.ui import start as start
from annotator.ui import tab as tab
