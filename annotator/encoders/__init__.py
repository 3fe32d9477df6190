"""Images to features, one encoder a file. Encoders know pixels only: no ids, no labels, no graph."""
