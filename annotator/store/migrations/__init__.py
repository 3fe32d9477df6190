"""Alembic migrations of the label store; shipped with the package and applied when a project is opened."""
