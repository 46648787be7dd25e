"""The Pulumi CLI as a child process: with a deadline, with errors that give cause and remedy, with a lock that a kill left.

The CLI's words are matched where its exit status says nothing; they are those of v3.259 (pulumi/pkg, backend/diy and
backend/httpstate) and a test holds them against the real one.
"""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import IO

from pulumi import automation
from pulumi.automation._cmd import _parse_and_validate_pulumi_version
from pulumi.automation._minimum_version import _MINIMUM_VERSION
from pulumi.automation.errors import create_command_error

from scripts.deployment.errors import AT_ONCE, CannotDeploy, CliTimedOut, Killed
from scripts.support.errors import MigrationError, Refused
from scripts.support.process import uninterrupted
from scripts.support.redact import redact

#: Commands that change or compare a whole stack; everything else asks the backend one question.
LONG = frozenset({"up", "preview", "refresh", "destroy"})
#: Those among them that hold the stack's lock.
LOCKING = LONG - {"preview"}
#: Seconds for such a question.
QUICK = 60.0
#: Seconds that an operation gets to end in good order once it was asked to.
GRACE = 15.0


@dataclass(frozen=True)
class Run:
    """One CLI process of ours: enough to know it again after it was killed."""

    pid: int
    hostname: str
    boot: str

    @classmethod
    def of(cls, pid: int) -> Run:
        """That process of this machine, now."""
        boot = ""
        with suppress(OSError):
            boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="utf-8").strip()
        return cls(pid, socket.gethostname(), boot)


def left_behind(locks: str, begun: Run | None, now: Run, alive: Callable[[int], bool]) -> bool:
    """Whether the only lock that the CLI's message tells of was left by a process of ours that is gone.

    Args:
        locks: the message of a locked stack (a backend of Pulumi's own kind has no process in it: never ours to take).
        begun: the last process that was started here for this stack.
        now: this machine as it is.
    """
    holders = re.findall(r"created by \S+@(\S+) \(pid (\d+)\)", locks)
    if begun is None or len(holders) != 1 or (begun.hostname, begun.boot) != (now.hostname, now.boot):
        return False
    return holders[0] == (begun.hostname, str(begun.pid)) and not alive(begun.pid)


class Command(automation.PulumiCommand):
    """The CLI with a deadline for each call.

    Args:
        executable: the CLI's path.
        timeout: seconds that an operation may take; a question to the backend gets :data:`QUICK` at most.
        record: file that names the process of an operation while it runs; a kill leaves it.

    Raises:
        TimedOut: it did not say its version in time.
        automation.InvalidVersionError: it is too old.
    """

    #: What it reads of its standard input: the way in for what must not stand in an argument list.
    said = ""

    def __init__(self, executable: str, timeout: float, record: Path) -> None:
        # Not the SDK's, which asks whatever `pulumi` is on our own PATH, and waits for it for ever.
        self.command = executable
        self.timeout = timeout
        self.record = record
        version = self.run(["version"], str(Path.cwd()), {"PULUMI_SKIP_UPDATE_CHECK": "true"}).stdout
        self.version = _parse_and_validate_pulumi_version(_MINIMUM_VERSION, version.removeprefix("v"), opt_out=False)

    def begun(self) -> Run | None:
        """The operation that was begun here and never ended."""
        try:
            return Run(**json.loads(self.record.read_text(encoding="utf-8")))
        except (OSError, ValueError, TypeError):
            return None

    def run(
        self,
        args: list[str],
        cwd: str,
        additional_env: Mapping[str, str],
        on_output: Callable[[str], object] | None = None,
        on_error: Callable[[str], object] | None = None,
    ) -> automation.CommandResult:
        """As the SDK's, which waits for ever. Raises TimedOut, and Killed when a signal ended the CLI."""
        verb = next((word for word in args if not word.startswith("-")), "")
        limit = self.timeout if verb in LONG else min(self.timeout, QUICK)
        # Files, not pipes: what the CLI started may hold a pipe open long after it.
        with (
            tempfile.TemporaryFile() as out_file,
            tempfile.TemporaryFile() as err_file,
            tempfile.TemporaryFile() as in_file,
        ):
            in_file.write(self.said.encode())
            in_file.seek(0)
            with ExitStack() as left:
                with uninterrupted():
                    child = subprocess.Popen(
                        [self.command, "--non-interactive", *args],
                        stdin=in_file,
                        stdout=out_file,
                        stderr=err_file,
                        cwd=cwd,
                        env={**os.environ, **additional_env, "PULUMI_AUTOMATION_API": "true"},
                        start_new_session=True,  # Ctrl-C in the terminal is ours to pass on; a kill takes the whole family
                    )
                    left.callback(_stop, child)
                    if verb in LOCKING:
                        self._note(child.pid)
                late = not _ended(child, limit)
            out, err = _text(out_file), _text(err_file)
        if late:
            raise CliTimedOut(
                f"pulumi {verb} did not end within {limit:g} s; its last words: {_last_words(out + err)}; look whether the "
                f"backend answers (pulumi whoami -v), then run the command again; {AT_ONCE}"
            )
        if verb in LOCKING and child.returncode >= 0:
            self.record.unlink(missing_ok=True)
        for lines, callback in ((out, on_output), (err, on_error)):
            for line in lines.splitlines() if callback else ():
                callback(line)  # type: ignore[misc]
        if child.returncode < 0:
            _end_family(child.pid)  # the language host alone would wait five minutes for its engine
            raise Killed(
                f"pulumi {verb} was ended by {signal.Signals(-child.returncode).name}; run the command again: it goes on from what the "
                f"stack's state says; its last words: {_last_words(out + err)}"
            )
        result = automation.CommandResult(stdout=out.rstrip(), stderr=err.rstrip(), code=child.returncode)
        if child.returncode:
            raise create_command_error(result)
        return result

    def _note(self, pid: int) -> None:
        # Without it a lock that a kill left is a person's to take away; nothing else hangs on it.
        with suppress(OSError):
            self.record.parent.mkdir(parents=True, exist_ok=True)
            self.record.write_text(json.dumps(asdict(Run.of(pid))), encoding="utf-8")


def _ended(child: subprocess.Popen[bytes], seconds: float) -> bool:
    try:
        child.wait(seconds)
    except subprocess.TimeoutExpired:
        return False
    return True


def _text(file: IO[bytes]) -> str:
    file.seek(0)
    return file.read().decode("utf-8", errors="replace")


def _stop(child: subprocess.Popen[bytes]) -> None:
    """Ctrl-C, so that the engine records what runs and gives its lock back; then kill."""
    child.send_signal(signal.SIGINT)  # does nothing once it has ended
    if not _ended(child, GRACE):
        _end_family(child.pid)
        child.wait()


def _end_family(leader: int) -> None:
    """Kill everything of the CLI's session; the engine gives each plugin a process group of its own."""
    for entry in [Path(str(leader)), *Path("/proc").glob("[0-9]*")]:
        with suppress(ProcessLookupError, PermissionError):
            if os.getsid(int(entry.name)) == leader:
                os.kill(int(entry.name), signal.SIGKILL)


def _last_words(text: str) -> str:
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return redact(" | ".join(lines[-3:])) or "none"


#: What the CLI says when its backend does not answer, does not exist or does not know us.
_AWAY = re.compile(
    r"unable to open (state directory|bucket)|\.pulumi/meta\.yaml|could not list bucket|error listing stacks|"
    r"performing HTTP request|dial tcp|connection refused|no such host|i/o timeout|deadline exceeded|"
    r"PULUMI_ACCESS_TOKEN must be set|invalid access token|pulumi login"
)


@contextmanager
def named(what: str, backend: str) -> Iterator[None]:
    """Turn the CLI's failures inside into errors that give the value, the cause and the remedy.

    Args:
        what: the attempted command, such as ``pulumi up``.
        backend: where the stack's state stands, for people.
    """
    try:
        yield
    except automation.ConcurrentUpdateError as error:
        raise CannotDeploy(
            f"{what}: the stack is locked by another update: wait for it to end, or, when its process is gone, run `pulumi "
            f"cancel`; {AT_ONCE}. The lock: {cause(error)}",
            "locked",
            cause(error),
        ) from error
    except automation.StackNotFoundError as error:
        raise Refused(f"{what} does not exist; make it with `pulumi stack init`: {cause(error)}") from None
    except automation.CommandError as error:
        text = cause(error)
        # With diagnostics the engine ran: then it is a resource's cloud that does not answer.
        if "\nDiagnostics:\n" not in str(error) and _AWAY.search(text):
            raise CannotDeploy(
                f"{what}: the backend {backend} does not answer or refuses us: {text}; look with `pulumi whoami -v`, mend the way to it "
                f"or its credentials and run the command again; {AT_ONCE}",
                "backend",
            ) from None
        raise MigrationError(f"{what} failed: {text}") from None
    except automation.InvalidVersionError as error:
        raise Refused(f"{what}: the Pulumi CLI is too old: {error}") from None


def cause(error: Exception) -> str:
    """What the CLI's message says under 'Diagnostics' (resource and cause), else its lines that name an error."""
    text = str(error)
    _, found, diagnostics = text.rpartition("\nDiagnostics:\n")
    if found:
        text = re.split(r"\n(?:Outputs|Resources|Duration|Policies):", diagnostics)[0]
    lines = [line.strip().removeprefix("stderr:").strip() for line in text.splitlines()]
    lines = [line for line in lines if line and not re.fullmatch(r"error: (update|preview) failed", line)]
    if found:
        lines = [line for line in lines if not line.startswith("warning:")]
        trace = next((i for i, line in enumerate(lines) if line.startswith("Traceback")), None)
        # A resource's failure interrupts the program, whose trace then tells nothing; a failing program has only its trace.
        if trace is not None and not any("unhandled exception" in line for line in lines):
            lines = lines[:trace]
    telling = lines if found else [line for line in lines if "error:" in line.lower()] or lines
    if isinstance(error, automation.ConcurrentUpdateError):
        telling += [line for line in lines if "created by" in line and line not in telling]
    return redact(" | ".join(telling[:20]))
