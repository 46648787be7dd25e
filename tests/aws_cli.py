"""Stands in for the AWS CLI in scripts that tests run: the same commands, judged and sent by botocore in the test's own process."""

from __future__ import annotations

import json
import socketserver
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import jmespath
from botocore import xform_name
from botocore.exceptions import ClientError

#: Given by name alone.
SWITCHES = {"--set-as-default": True}
#: What a script starts: it hands its words over, and takes what is said.
CALLER = """#!{python} -IS
import json, os, socket, sys
with socket.create_connection(("127.0.0.1", {port})) as asked:
    asked.sendall(json.dumps([os.getcwd(), os.environ.get("AWS_REGION"), *sys.argv[1:]]).encode())
    asked.shutdown(socket.SHUT_WR)
    status, out, err = json.loads(b"".join(iter(lambda: asked.recv(65536), b"")))
sys.stdout.write(out)
sys.stderr.write(err)
sys.exit(status)
"""


def carry_out(client_of: Callable[[str], Any], place: str, words: list[str]) -> tuple[int, str, str]:
    """Status, output and errors of one command; 254 where AWS refuses (AWS CLI, 'Return codes')."""
    service, operation, *rest = words
    client = client_of("s3" if service == "s3api" else service)
    named = {xform_name(name): name for name in client.meta.service_model.operation_names}
    shape = client.meta.service_model.operation_model(named[operation.replace("-", "_")]).input_shape
    known = {xform_name(name, "-"): (name, member) for name, member in shape.members.items()} if shape else {}
    parameters: dict[str, Any] = {}
    query, form = None, ""
    while rest:
        word = rest.pop(0)
        given: Any = SWITCHES.get(word) or rest.pop(0)
        if word == "--query":
            query = given
        elif word == "--output":
            form = given
        elif word != "--region":
            name, member = known[word.removeprefix("--")]
            if isinstance(given, str) and given.startswith("file://"):
                given = (Path(place) / given.removeprefix("file://")).read_text()
            if member.type_name in ("structure", "integer") or str(given)[:1] == "[":
                given = json.loads(given)
            parameters[name] = [given] if member.type_name == "list" and not isinstance(given, list) else given
    if operation == "create-open-id-connect-provider":
        parameters["ThumbprintList"] = ["a" * 40]  # moto asks for it, AWS no longer does
    try:
        answer = getattr(client, operation.replace("-", "_"))(**parameters)
    except ClientError as error:
        return 254, "", f"{error}\n"
    if query is None:
        return 0, "", ""
    found = jmespath.search(query, answer)
    if form == "json":
        return 0, json.dumps(found) + "\n", ""
    return 0, ("\t".join(map(str, found)) if isinstance(found, list) else str(found)) + "\n", ""


@contextmanager
def installed(directory: Path, client_of: Callable[[str, str | None], Any]) -> Iterator[Path]:
    """A folder for PATH with `aws`, and a `gh` that notes its words in `gh-asked` beside it.

    Args:
        client_of: the client of a service in the region of the script's environment (AWS_REGION), if it names one.
    """

    class Handler(socketserver.StreamRequestHandler):
        def handle(self) -> None:
            place, region, *words = json.loads(self.rfile.read())
            self.wfile.write(json.dumps(carry_out(lambda service: client_of(service, region), place, words)).encode())

    directory.mkdir(exist_ok=True)
    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), Handler) as server:
        (directory / "aws").write_text(CALLER.format(python=sys.executable, port=server.server_address[1]))
        (directory / "gh").write_text(f'#!/bin/sh\necho "$*" >>"{directory}/gh-asked"\n')
        for name in ("aws", "gh"):
            (directory / name).chmod(0o700)
        serving = threading.Thread(target=server.serve_forever, daemon=True)
        serving.start()
        try:
            yield directory
        finally:
            server.shutdown()
            serving.join(10)
