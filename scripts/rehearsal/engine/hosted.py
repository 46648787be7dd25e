"""The program and the emulated provider beside the Pulumi CLI, which is told where both serve instead of starting them.

The program is served as an inline program of the Automation API is, by the SDK's own language server (``--client`` of
up, preview, refresh and destroy); the provider is attached to (``PULUMI_DEBUG_PROVIDERS``). Neither a language host nor
a plugin is needed, and neither starts an interpreter.
"""

from __future__ import annotations

import os
import runpy
import threading
from collections.abc import Callable
from concurrent import futures
from pathlib import Path

import grpc
from pulumi.automation._server import LanguageServer
from pulumi.runtime.proto import language_pb2_grpc, provider_pb2_grpc

from scripts.rehearsal.emulated.plugin import Provider

#: The engine sends whole states in one message: 400 MB is its own limit (pulumi/sdk/go, rpcutil).
_LIMIT = 400 * 1024 * 1024
_OPTIONS = [("grpc.max_receive_message_length", _LIMIT), ("grpc.max_send_message_length", _LIMIT)]


def main(program: Path, tell: Callable[[tuple[int, int]], object]) -> None:
    """Serve the ``__main__.py`` in ``program`` and the provider, for one operation and until this process is ended.

    Args:
        tell: called with the ports of both on this machine.
    """
    os.chdir(program)

    def run_file() -> None:
        runpy.run_path(str(program), run_name="__main__")

    host, provider = (grpc.server(futures.ThreadPoolExecutor(max_workers=16), options=_OPTIONS) for _ in range(2))
    language_pb2_grpc.add_LanguageRuntimeServicer_to_server(LanguageServer(run_file), host)
    provider_pb2_grpc.add_ResourceProviderServicer_to_server(Provider(), provider)
    ports = (host.add_insecure_port("127.0.0.1:0"), provider.add_insecure_port("127.0.0.1:0"))
    for server in (host, provider):
        server.start()
    tell(ports)
    threading.Event().wait()
