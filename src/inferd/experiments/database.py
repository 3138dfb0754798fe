"""Open the database of experiments: which URLs are good, its tables brought up to date, its absence told."""

from __future__ import annotations

import random
import re
import sqlite3
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.util import CommandError
from sqlalchemy import URL, Connection, Engine, create_engine, event, make_url
from sqlalchemy.exc import ArgumentError, InterfaceError, InternalError, OperationalError, SQLAlchemyError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError

from inferd.core.errors import ConfigError, StoreUnavailable

_MIGRATIONS = Path(__file__).parent / "migrations"
_MIGRATION_LOCK = 0x1FE4D  # any number, the same for all servers
_POSTGRESQL_LIMITS = {"connect_timeout": 5, "tcp_user_timeout": 10_000}
"""libpq, "Parameter Key Words": in seconds and in milliseconds; without them a dead host is noticed after minutes."""
_PLAIN_AUTHORITY = re.compile(r"[^:]*://([^@/?]*@)?[^@]*")  # no other @ from which a host could wrongly be read
RETRY_AFTER_S = 5
_SQLITE_WAIT_S = 5


def open_database(url: str) -> Engine:
    """Connect to ``sqlite:///path`` or ``postgresql://…`` and bring its tables up to date; of several servers that
    start at once, one does it.

    Raises ``ConfigError`` when that cannot be done.
    """
    engine = _engine(url)
    shown = _shown(engine.url)
    try:
        with engine.begin() as connection:
            _migrate(connection)
    except CommandError as error:
        raise ConfigError(f"the experiments' store {shown} is of a newer inferd; update this one ({error})") from None
    except (SQLAlchemyError, OSError) as error:
        reason = (str(getattr(error, "orig", error)).splitlines() or [type(error).__name__])[0]
        raise ConfigError(
            f"the experiments' store {shown} cannot be opened: {reason}; is the server up, does the folder exist, "
            "may this user write there?"
        ) from None
    return engine


@contextmanager
def answering() -> Iterator[None]:
    """The database's absence as an error that says when to come back."""
    try:
        yield
    except (OperationalError, InterfaceError, InternalError, PoolTimeoutError) as error:
        raise StoreUnavailable(
            "the experiments' store does not answer; send it again later", retry_after_s=RETRY_AFTER_S
        ) from error


@contextmanager
def writing(engine: Engine) -> Iterator[Connection]:
    """A transaction in which what was read stays true until the end: SQLite lets no other write meanwhile, PostgreSQL
    none to rows selected ``FOR UPDATE``. Raises ``StoreUnavailable``."""
    with answering(), engine.begin() as connection:
        if connection.dialect.name == "sqlite":
            connection.exec_driver_sql("BEGIN IMMEDIATE")
        yield connection


def _engine(url: str) -> Engine:
    """Raises ``ConfigError`` for a URL that is neither of the two."""
    wanted = "give sqlite:///path/to/file.db or postgresql://user:password@host/database"
    try:
        parsed = make_url(url)
    except (ArgumentError, ValueError):
        raise ConfigError(f"the experiments' store is no database URL; {wanted}") from None
    if parsed.drivername != "sqlite" and not _PLAIN_AUTHORITY.fullmatch(url):
        raise ConfigError("the experiments' store: in a password write @, / and ? as %40, %2F and %3F")
    if parsed.drivername in ("postgresql", "postgres", "postgresql+psycopg"):
        return _postgresql(parsed.set(drivername="postgresql+psycopg"))
    if parsed.drivername != "sqlite" or parsed.database in (None, "", ":memory:"):
        raise ConfigError(f"the experiments' store cannot be {_shown(parsed)}; {wanted}")
    engine = create_engine(parsed, hide_parameters=True)
    event.listen(engine, "connect", _tune_sqlite)
    return engine


def _postgresql(url: URL) -> Engine:
    limits = {name: value for name, value in _POSTGRESQL_LIMITS.items() if name not in url.query}
    return create_engine(url, pool_pre_ping=True, hide_parameters=True, connect_args=limits)


def _shown(url: URL) -> str:
    """Without user, password and options, of which one may be a password."""
    return f"{url.drivername}://{url.host or ''}/{url.database or ''}"


def _migrate(connection: Connection) -> None:
    """Apply the missing revisions, as the only one who does."""
    if connection.dialect.name == "postgresql":
        connection.exec_driver_sql(f"SELECT pg_advisory_xact_lock({_MIGRATION_LOCK})")
    else:
        connection.exec_driver_sql("BEGIN IMMEDIATE")
    config = Config()
    config.set_main_option("script_location", str(_MIGRATIONS).replace("%", "%%"))
    config.attributes["connection"] = connection
    command.upgrade(config, "head")


def _tune_sqlite(connection: sqlite3.Connection, record: object) -> None:
    """Readers and the writer do not wait for each other; a crash of the machine may lose the last transactions."""
    connection.execute(f"PRAGMA busy_timeout = {_SQLITE_WAIT_S * 1000}")
    _write_ahead(connection)
    connection.execute("PRAGMA synchronous = NORMAL")


def _write_ahead(connection: sqlite3.Connection) -> None:
    """Servers that do this to one fresh file at once refuse each other without the waiting that they were told."""
    deadline_s = time.monotonic() + _SQLITE_WAIT_S
    while True:
        try:
            connection.execute("PRAGMA journal_mode = WAL")
            return
        except sqlite3.OperationalError:
            if time.monotonic() > deadline_s:
                raise
            time.sleep(random.uniform(0.001, 0.02))
