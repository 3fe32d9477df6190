"""What to ask next, one family of strategies a file. Strategies see a `Pool`: no ids, no people, no images on disk."""
