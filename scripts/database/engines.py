"""What the engines of replication differ in below both of them: the output plugin, and where one keeps what it started."""

from __future__ import annotations

from typing import Literal

from components.config import MigrationConfig
from scripts.database import helper_schema
from scripts.database.connections import Connection
from scripts.support.errors import Refused

EngineName = Literal["native", "dms"]
#: The output plugin that reads a slot (PostgreSQL, 'Logical Replication'; AWS DMS, PostgreSQLSettings, PluginName).
PLUGINS: dict[EngineName, str] = {"native": "pgoutput", "dms": "test_decoding"}
#: Of `replicationEngine: none`, by every command that would carry a change.
ENDED = (
    "replicationEngine is none: replication was ended by `finalize`, and what carried it is no longer declared; to move tables anew set it "
    "to dms or native, pulumi up, and begin at `preflight`"
)


def plugin(config: MigrationConfig) -> str:
    """The output plugin of the configured engine. Raises Refused where there is none."""
    if config.replication_engine == "none":
        raise Refused(ENDED)
    return PLUGINS[config.replication_engine]


def dms_state_key(direction: str) -> str:
    """The name under which the helper schema on the target keeps what AWS DMS was started with, by direction."""
    return f"dms_{direction}"


def dms_started(target: Connection, direction: str = "forward") -> bool:
    """Whether a DMS task was started from this copy's slots: the target may hold writes of its own since."""
    return helper_schema.get(target, dms_state_key(direction)) is not None
