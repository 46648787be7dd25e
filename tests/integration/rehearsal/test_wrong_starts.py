"""A rehearsal that is started with something wrong in its account fails where a night on AWS would, or before, and says what mends it."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import get_args

import pytest

from scripts.rehearsal.plan import Wrong

ROOT = Path(__file__).parents[3]
#: What is wrong, what is said of it, and what the rehearsal came to before.
STARTS: dict[Wrong, tuple[str, str]] = {
    "operator-way": (
        r"task-migration schema role --operator ended with \d+: .*nothing at \S+ answered within 3 s, .*put the security group of this shell "
        r"or runner into operatorSecurityGroupIds, then pulumi up",
        "applications",
    ),
    "service-way": (
        r"network: ways: the Task Service to its database: no rule lets TCP 5432 into sg-\w+, for sg-\w+; .*`pulumi up --refresh`",
        "world",
    ),
    "link-way": (
        r"network: ways: API Gateway to the load balancer: no rule lets TCP 443 into sg-\w+, for sg-\w+; .*`pulumi up --refresh`",
        "world",
    ),
    "image": (
        r"service: image: myteacher-task-service:rehearsal is not in the repository; no task can start; push it, or correct serviceImageTag",
        "world",
    ),
    "secret": (
        r"service: secret task-service/db-password: task-service/db-password has no value; put one in: aws secretsmanager put-secret-value",
        "world",
    ),
    "secret-name": (
        r"task-service/db-password is being deleted \(DeletedDate \S+\): .*aws secretsmanager restore-secret --secret-id task-service/db-password",
        "nothing",
    ),
    "rule-in-front": (r"weight 100 and rule 40: .*the monolith would go on answering.*liveRulePriority", "nothing"),
    "rule-behind": (
        r"weight 0 and rule 300: .*authenticate-oidc, then myteacher-monolith.*set hostHeaders",
        "nothing",
    ),
}
#: The last thing that it tells before, by how far it came.
CAME_TO = {"nothing": "rows in the monolith's database", "world": "preflight of the account: ", "applications": "serve"}


def test_every_wrong_start_is_tried() -> None:
    assert set(STARTS) == set(get_args(Wrong))


@pytest.mark.parametrize("wrong", STARTS)
def test_a_wrong_start_fails_with_what_mends_it(wrong: Wrong, tmp_path: Path) -> None:
    """Fails when the rehearsal goes well, or too far, with an account in which the night would not."""
    output = tmp_path / "rehearsal"
    small = ("--rows", "10", "--users", "1", "--rate", "1", "--watch", "2", "--engine", "embedded")
    hidden = ("AWS_", "PULUMI", "TASK_", "SOURCE_DATABASE_URL", "TARGET_DATABASE_URL")
    done = subprocess.run(
        [*(sys.executable, "-m", "scripts", "rehearse", "--output", str(output), *small), "--wrong", wrong, "--json"],
        cwd=ROOT,
        env={key: value for key, value in os.environ.items() if not key.startswith(hidden)},
        capture_output=True,
        text=True,
        check=False,
    )
    said, came_to = STARTS[wrong]
    assert done.returncode == 10, done.stderr
    (failure,) = [one["evidence"] for one in json.loads(done.stdout)["criteria"] if one["name"] == "every step ended"]
    assert re.search(said, failure, re.DOTALL), failure
    assert "every step ended" in (output / "report.html").read_text()
    told = [line for line in done.stderr.splitlines() if re.match(r" *\d+\.\d s  ", line)]
    assert CAME_TO[came_to] in told[-1]
