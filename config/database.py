"""The database as the settings say it: opened for a process, and looked at before a start."""

from datetime import timedelta

from sqlalchemy import text
from sqlalchemy.exc import DBAPIError

from config.environment import place_of
from config.settings import PREFIX, Settings
from tidegate.database.connection import UNREACHABLE, Database
from tidegate.database.sessions import PREPARE_THRESHOLD, OptionsBy, Sessions
from tidegate.errors import ConfigurationError, DatabaseSessionError

_PATIENCE = timedelta(seconds=2)


def open_database(settings: Settings, *, pool_size: int, patience: timedelta | None = None) -> Database:
    """Makes the database of these settings; it connects at the first use. See `Database` for the rest."""
    return Database(settings.database, pool_size=pool_size, patience=patience, sessions=sessions_of(settings))


def sessions_of(settings: Settings) -> Sessions:
    """How connections to PostgreSQL are made."""
    options_by = OptionsBy(settings.database_options)
    threshold = settings.database_prepare_threshold
    if threshold is None:
        threshold = "off" if options_by is OptionsBy.TRANSACTION else PREPARE_THRESHOLD
    return Sessions(
        options_by=options_by,
        prepare_threshold=None if threshold == "off" else threshold,
        most=settings.database_connections,
    )


def check_sessions(settings: Settings) -> None:
    """Raises ConfigurationError when a pooler before PostgreSQL takes no options of a session, or loses them.

    A database that can't be reached is no fault: it may come later, and each connection is looked at again.
    """
    database = open_database(settings, pool_size=1, patience=_PATIENCE)
    try:
        database.fetch_one(text("SELECT 1"))
    except DatabaseSessionError as error:
        raise ConfigurationError(f"{place_of(PREFIX + 'DATABASE_URL')}: {error}") from error
    except (*UNREACHABLE, DBAPIError):
        return
    finally:
        database.close()
