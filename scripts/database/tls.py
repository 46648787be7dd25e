"""Whom a connection talks to: what leaves this machine checks the server's certificate and name, and nothing can turn that off."""

from __future__ import annotations

import ipaddress
import os
from collections.abc import Mapping
from itertools import zip_longest
from pathlib import Path
from typing import Any

from psycopg import pq

from scripts.support.errors import Refused, UsageError

#: What libpq may take from the environment or a service file where a connection string leaves it out.
_PLACE = ("host", "hostaddr", "port", "dbname")
#: Weaker modes give the password and the rows to whoever answers (PostgreSQL, 'SSL Support', Protection Provided in Different Modes).
MODE = "verify-full"
BUNDLE = "https://truststore.pki.rds.amazonaws.com/global/global-bundle.pem"


def address(values: Mapping[str, Any]) -> dict[str, str]:
    """Where libpq would go with these parameters: host, hostaddr, port and dbname, those from the environment among them.

    Raises UsageError for one that the environment has in bytes that are no text.
    """
    known = {entry.keyword.decode(): entry.val for entry in pq.Conninfo.get_defaults()}
    found = {}
    for key in _PLACE:
        try:
            value = values.get(key) or (known.get(key) or b"").decode()
        except UnicodeDecodeError:
            raise UsageError(f"PG{key.upper()} is no text in UTF-8; correct it, or unset it") from None
        if value:
            found[key] = str(value)
    if found.get("host") == "localhost" and "hostaddr" not in found:
        # A name is what a resolver says; this one is meant to be this machine.
        found["hostaddr"] = "127.0.0.1"
    return found


def stays_here(values: Mapping[str, Any]) -> bool:
    """Whether a connection with these parameters (see :func:`address`) leaves this machine nowhere: a unix socket, or loopback
    by number. A name is another machine, whatever it resolves to just now, unless its address is given beside it."""
    hosts = str(values.get("host") or "").split(",")
    numbers = str(values.get("hostaddr") or "").split(",")
    return all(_local(host, number) for host, number in zip_longest(hosts, numbers, fillvalue=""))


def _local(host: str, number: str) -> bool:
    if host.startswith(("/", "@")) or not (host or number):
        return not number
    if host == "localhost":
        return bool(number) and _loopback(number)
    return all(_loopback(text) for text in (host, number) if text)


def _loopback(text: str) -> bool:
    try:
        return ipaddress.ip_address(text).is_loopback
    except ValueError:
        return False


def secured(values: Mapping[str, Any], name: str) -> dict[str, Any]:
    """The parameters of a connection, with everything pinned that says whom it talks to.

    Args:
        name: the variable that they are from, for errors.

    Raises:
        UsageError: a service or a weaker sslmode is asked for.
        Refused: no certificates of authorities are known to check the server by.
    """
    if values.get("service"):
        raise UsageError(f"{name} names a service, which may change where it leads; write host, port and database out")
    place = address(values)
    # An empty value keeps libpq from looking into the environment and PGSERVICE.
    done = {**values, **dict.fromkeys(("host", "hostaddr"), ""), **place}
    if stays_here(place):
        # libpq's own default, as the environment may ask for what a server of this machine has not.
        return (
            done
            if values.get("sslmode") or values.get("sslrootcert")
            else {**done, "sslmode": "prefer", "sslrootcert": ""}
        )
    where = place.get("host") or place["hostaddr"]
    mode = values.get("sslmode")
    if mode not in (None, MODE):
        raise UsageError(
            f"{name} says sslmode={mode}, the limit is {MODE}: with less, whoever answers at {where} gets the password. Leave it "
            f"out, or write {MODE}; the certificates of RDS's authorities: {BUNDLE}"
        )
    root = str(values.get("sslrootcert") or os.environ.get("PGSSLROOTCERT") or "")
    if not root and (usual := Path.home() / ".postgresql" / "root.crt").exists():
        root = str(usual)
    if not root or (root != "system" and not Path(root).is_file()):
        raise Refused(
            f"{name} leads to {where}, and there are no certificates of authorities to know it by"
            f"{f': {root} is no file' if root else ''}; download {BUNDLE} and export PGSSLROOTCERT=<that file> (or ?sslrootcert= in the "
            "URL; `system` for a certificate of a public authority)"
        )
    # Encryption by Kerberos would go before TLS, and takes any server of the realm.
    return {**done, "sslmode": MODE, "sslrootcert": root, "gssencmode": "disable"}
