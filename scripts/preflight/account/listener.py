"""The existing listener, as the stack's file names it: what it speaks, and on which port."""

from __future__ import annotations

from collections.abc import Iterator

from components.config_stack import StackConfig
from scripts.preflight.account.asking import Clients
from scripts.preflight.documents import Check


def checks(config: StackConfig, aws: Clients) -> Iterator[Check]:
    """Whether the listener is there and speaks TLS."""
    elb = aws("elbv2")
    try:
        listener = elb.describe_listeners(ListenerArns=[config.listener_arn])["Listeners"][0]
    except elb.exceptions.ListenerNotFoundException:
        remedy = "correct listenerArn: aws elbv2 describe-listeners"
        yield Check("listener: listenerArn", "fail", f"{config.listener_arn} does not exist", remedy)
        return
    protocol, port = str(listener["Protocol"]), int(listener["Port"])
    yield Check(
        "listener: protocol",
        "pass" if protocol == "HTTPS" else "fail",
        f"{protocol} on port {port}; limit: HTTPS, as tokens pass there",
        "name the HTTPS listener: aws elbv2 describe-listeners",
    )
