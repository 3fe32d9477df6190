"""Where images come from: one file per kind of source. A source lists and opens; it knows no labels and no model."""
