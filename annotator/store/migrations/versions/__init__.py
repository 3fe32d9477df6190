"""One file a schema change, never edited after it has landed."""
