"""The pages of the app, in one import: main.py draws the page's frame before it waits for them."""

from annotator.ui.views import export as export
from annotator.ui.views import label as label
from annotator.ui.views import progress as progress
from annotator.ui.views import start as start
