"""The cookie by which a load balancer keeps a client on one target group; pure.

Elastic Load Balancing, 'Action types for listener rules' (forward actions): AWSALBTG names the chosen group, and a request that
brings it to a rule with stickiness goes to that group. AWSALBTGCORS says the same to pages of other origins. 'Sticky sessions':
the expiry of a cookie that the load balancer generates is reset after every request, so a client that comes back in time is bound
for as long as it does. The cookie lives for seven days; whether it still binds is judged by the rule's seconds, inside of it.

A page of another origin has its browser keep and send it only if it asks with credentials and the API's CORS allows them.
"""

from __future__ import annotations

import base64
import binascii
from email.utils import formatdate

from scripts.support.listener_rules import Rule

NAME, TWIN = "AWSALBTG", "AWSALBTGCORS"
COOKIE_SECONDS = 7 * 86_400


def bound_group(rule: Rule, cookies: str, now: float) -> str | None:
    """The group of the rule that a request with this Cookie header is bound to, at any weight and in any health; None for the
    weights to choose: no cookie, one that nobody can read or that is too old, a group that the rule names no more.

    Args:
        now: seconds since the epoch.
    """
    for part in cookies.split(";"):
        name, _, value = part.strip().partition("=")
        if name not in (NAME, TWIN):
            continue
        try:
            at, _, group = base64.b64decode(value, validate=True).decode().partition(" ")
            if now - float(at) < rule.sticky and group in rule.weights:
                return group
        except (binascii.Error, ValueError):
            continue  # it is as good as none
    return None


def cookies_for(rule: Rule, group: str, now: float) -> list[tuple[bytes, bytes]]:
    """The Set-Cookie headers of an answer of this group, on every answer; none of a rule without stickiness."""
    if not rule.sticky:
        return []
    value = base64.b64encode(f"{now:.3f} {group}".encode()).decode()
    common = f"{value}; Expires={formatdate(now + COOKIE_SECONDS, usegmt=True)}; Path=/"
    return [
        (b"set-cookie", f"{NAME}={common}".encode()),
        (b"set-cookie", f"{TWIN}={common}; SameSite=None; Secure".encode()),
    ]
