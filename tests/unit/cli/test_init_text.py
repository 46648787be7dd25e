"""What a person reads of `init`: each key once, with its value as the file has it and where that is from."""

from __future__ import annotations

import pytest
import typer

from scripts.cli.init import _ask, _view
from scripts.init.documents import Candidate, Init, InitKey
from tests.unit.cli.shown import shown

KEYS = [
    InitKey(key="sourcePort", state="found", value=5432, how="the port of myteacher-production"),
    InitKey(key="dmsCreateAccountRoles", state="found", value=True, how="roles of DMS: not there yet"),
    InitKey(
        key="sourceHost", state="kept", value="db.internal", how="the file has it; the endpoint (a.b): --force takes it"
    ),
    InitKey(key="vpcId", state="kept", value="vpc-1", how="the file has it"),
    InitKey(key="serviceImageTag", state="given", value="3f2c1a9", how="the command line"),
    InitKey(
        key="clusterArn",
        state="open",
        how="clusters: 2",
        candidates=(Candidate(value="arn:a", what="one"), Candidate(value="arn:b", what="two")),
        remedy="--set clusterArn=...",
        required=True,
    ),
    *(
        InitKey(key=key, state="open", how="nothing in the account says it", remedy=f"--set {key}=...")
        for key in ("hostHeaders", "alarmEmails")
    ),
]


def test_a_key_stands_once_with_its_value_as_the_file_has_it() -> None:
    """Fails when a port has thousands apart, as who types it into a file gets no server there."""
    document = Init(file="Pulumi.staging.yaml", written=True, keys=KEYS, secrets={"smokeHeaderValue": True})
    assert (
        shown(_view(document, "staging"))
        == """\
Pulumi.staging.yaml is written; 1 key to fill in.

As you said
  serviceImageTag  3f2c1a9

Found in the account
  sourcePort             5432
                         the port of myteacher-production
  dmsCreateAccountRoles  true
                         roles of DMS: not there yet

In the file before
  sourceHost  db.internal
              the endpoint (a.b): --force takes it
  vpcId       vpc-1

FAIL  clusterArn: clusters: 2
      arn:a  one
      arn:b  two
      remedy: --set clusterArn=...

warn  hostHeaders, alarmEmails: nothing in the account says it
      remedy: --set KEY=VALUE
Next: task-migration init --stack staging --set KEY=VALUE"""
    )


def test_who_is_asked_reads_what_the_key_means(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Fails when `hostHeaders - nothing in the account says it` is all that somebody has to answer."""
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setattr(typer, "prompt", lambda *_, **__: "")
    assert _ask(InitKey(key="hostHeaders", state="open", how="nothing in the account says it")) is None
    lines = capsys.readouterr().err.splitlines()
    assert lines[1].startswith("hostHeaders: Hosts whose task requests the live rule takes")
    assert lines[-1] == "nothing in the account says it"
    assert max(map(len, lines)) <= 80
