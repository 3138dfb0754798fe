"""Revisions of the experiments' database, applied by Alembic when a store is opened."""
