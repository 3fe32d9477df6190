"""How Alembic reaches the store: on the connection that `annotator.store` already holds, in its transaction."""

from alembic import context

context.configure(connection=context.config.attributes["connection"], target_metadata=None)
context.run_migrations()
