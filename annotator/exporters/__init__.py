"""Labels out of a project: one file per kind of export, each with a manifest that counts what was written."""
