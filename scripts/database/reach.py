"""Why no session with a server came about, and what mends it: names, ways, servers, roles, databases and certificates told apart.

Before a session there is no SQLSTATE (libpq gives a text alone), so what is judged are the texts of libpq and psycopg, which this
machine's language does not change, and of the server, which its `lc_messages` does: what is not known is told as it came.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Literal

import psycopg

from scripts.database.tls import BUNDLE

Kind = Literal[
    "name",
    "way",
    "server",
    "password",
    "silence",
    "role",
    "database",
    "certificate",
    "encryption",
    "limit",
    "parameter",
    "socket",
    "replication",
    "other",
]
#: Of these what was given is at fault (exit 2); a server that is away may come back (exit 1).
GIVEN: frozenset[Kind] = frozenset(("name", "password", "silence", "role", "database", "parameter", "socket"))

#: The kinds by their texts; the first that fits.
_TEXTS: tuple[tuple[Kind, str], ...] = (
    ("name", r"failed to resolve host|could not translate host name"),
    ("way", r"timeout expired|timed out|No route to host|Network is unreachable|Host is down"),
    ("socket", r"on socket .* failed: No such file or directory"),
    ("server", r"Connection refused|the database system is|server closed the connection"),
    ("password", r"password authentication failed"),
    ("silence", r"no password supplied"),
    ("database", r'database ".*" does not exist|permission denied for database'),
    ("role", r'role ".*" (does not exist|is not permitted)'),
    ("replication", r"permission denied to start WAL sender|must be superuser or replication role"),
    ("limit", r"too many (clients|connections)|remaining connection slots"),
    ("encryption", r"no encryption|does not support SSL|SSL off"),
    ("parameter", r"invalid (\S+ value|integer value|connection option|port)|weak sslmode|sslmode value"),
    ("certificate", r"certificate|SSL error"),
)  # fmt: skip


def kind(error: psycopg.OperationalError) -> Kind:
    """What kept the session from coming about."""
    if isinstance(error, psycopg.errors.ConnectionTimeout):
        return "way"
    text = str(error)
    return next((found for found, pattern in _TEXTS if re.search(pattern, text)), "other")


def remedy(found: Kind, name: str, values: Mapping[str, Any]) -> str:
    """What to do.

    Args:
        name: the variable that the connection string is from; of the two databases it says which keys open the way.
        values: the connection's parameters.
    """
    where = f"{values.get('host') or values.get('hostaddr') or 'the socket'}:{values.get('port') or 5432}"
    keys = "operatorSecurityGroupIds" + (", with operatorReachesSource: true" if name.startswith("SOURCE") else "")
    return {
        "name": f"no address is known for the host of {where}: compare it with the endpoint in the RDS console, and run this where the VPC's "
        "names are resolved (a runner or shell in it, or a tunnel: host=<that name> hostaddr=127.0.0.1)",
        "way": f"nothing at {where} answered within {values.get('connect_timeout', '10')} s, as where a security group or a missing route "
        f"stops it: put the security group of this shell or runner into {keys}, then pulumi up; or work from one that is in such a group",
        "server": f"{where} is reached and nothing takes connections there: compare the port, and whether the instance is available",
        "password": f"{where} answered and does not take this password: compare it with the secret's (a rotated one has another since)",
        "silence": f"{where} answered and asks for a password, and none was given: put it into the URL of {name}, or take {name} away, and the "
        "stack's secret is used",
        "role": f"{where} answered and this role may not log in: make it, or ALTER ROLE ... LOGIN",
        "database": f"{where} answered and lets this role into no such database: compare the database's name in the URL",
        "limit": f"{where} answered and has no connection left: end idle sessions, or raise max_connections",
        "encryption": f"{where} answered, and one of both sides speaks no TLS: turn it on there (RDS has it always; else ssl = on)",
        "certificate": f"{where} answered, and cannot be known by its certificate: PGSSLROOTCERT has to name the authorities ({BUNDLE}), and "
        "the URL the name in the certificate, which is the endpoint's",
        "parameter": f"correct that parameter in {name}",
        "socket": f"{name} names no host, or a directory for one, and no server of this machine has a socket there: write the host and the port",
        "replication": f"{where} answered and this role may not replicate: ALTER ROLE ... REPLICATION (RDS: GRANT rds_replication TO it)",
        "other": f"check host, port, rights and that the server of {where} runs",
    }[found]
