"""Step 3: prove that both sides hold the same rows, while both take writes, and mend what differs."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any, Literal

from scripts import catalog, fence, replicate_status, schema, verify_compare, verify_orphans, verify_repair
from scripts.support.errors import Refused
from scripts.support.postgres import connect, domain_errors
from scripts.support.settings import Settings

Repair = Literal["newest", "source", "target"]
#: Differences listed for a table; more are counted, not listed.
LISTED = 1000


def run(
    settings: Settings,
    show_values: bool = False,
    repair: Repair | None = None,
    algorithm: verify_compare.Algorithm = "hash",
    fence_timeout: float = 30.0,
) -> dict[str, Any]:
    """Compare counts and checksums of every table, then single rows where they differ, then look again after a fence.

    A row is reported only when both sides held still around a fence and it differed before and after; a row that keeps
    being written is looked at again, up to :data:`scripts.verify_compare.ROUNDS` times, and then counted in ``unsettled``.

    Args:
        repair: mend the differences: the newest version wins (updated_at, then the commit's time; a row that is there wins
            over one that is not), or always the source's, or always the target's. The mend does not travel back.
        algorithm: ``hash`` (PostgreSQL's own, fast) or ``md5``, as the plan names it.

    Returns:
        ``{"match", "tables": [{"table", "source_rows", "target_rows", "source_checksum", "target_checksum", "match",
        "differences": [{"key", "kind", "columns"[, "values"]}], "differences_total", "repaired", "unsettled"}], "sequences",
        "orphans": [{"constraint", "table", "columns", "references", "count", "samples"}], "schema_match", "live", "algorithm"}``.
        Counts and checksums are those measured last; while rows are under way they may be a moment apart though ``match``
        is true. ``match`` is about rows, orphans and failed sequences; ``differences`` are those before a repair, and a repair that
        mends them all leaves ``match`` true.

    Raises:
        Refused: the tables do not exist, or ``repair`` is unknown.
        TimedOut: a fence did not come through.
    """
    if repair not in (None, "newest", "source", "target"):
        raise Refused(f"repair {repair!r}: it must be newest, source or target")
    config = settings.config
    with (
        domain_errors("verify"),
        connect(settings.source(), step="verify", name="SOURCE_DATABASE_URL") as source,
        connect(settings.target(), step="verify", name="TARGET_DATABASE_URL") as target,
    ):
        tables = catalog.read(source, config.db_schema, config.tables, "source")
        theirs = catalog.read(target, config.db_schema, config.tables, "target")
        live = fence.available(settings)
        pair = verify_compare.Pair(source, target)

        def settle() -> None:
            if live:
                fence.both(settings, fence_timeout)

        settle()
        results = []
        with ThreadPoolExecutor(2, thread_name_prefix="verify") as pool:
            for name, table in tables.items():
                compared = verify_compare.compare(pair, table, theirs[name], pool, algorithm, settle)
                results.append((table, compared))
        repaired: dict[str, int] = {}
        left = {table.name: compared.differences for table, compared in results}
        if repair is not None and any(left.values()):
            repaired = verify_repair.mend(settings, tables, left, repair)
            settle()
            with ThreadPoolExecutor(2, thread_name_prefix="verify") as pool:
                again = [
                    (table, verify_compare.compare(pair, table, theirs[table.name], pool, algorithm, settle))
                    for table in tables.values()
                ]
            left = {table.name: compared.differences for table, compared in again}
            results = [
                (table, replace(new, differences=old.differences))
                for (table, new), (_, old) in zip(again, results, strict=True)
            ]
        report = [
            _table(table, compared, left[table.name], repaired.get(table.name, 0), pair if show_values else None)
            for table, compared in results
        ]
        sequences = replicate_status.sequences(settings, source, target)
        orphans = verify_orphans.audit(source, target, tables, settle)
    schema_match = bool(schema.diff(settings)["match"])
    match = (
        all(entry["match"] for entry in report)
        and not orphans
        and all(entry["status"] != "fail" for entry in sequences)
    )
    document = {
        "match": match,
        "tables": report,
        "sequences": sequences,
        "orphans": orphans,
        "schema_match": schema_match,
        "live": live,
        "algorithm": algorithm,
    }
    settings.journal.record(
        "verify",
        "compared",
        match=match,
        repair=repair,
        differences={entry["table"]: entry["differences_total"] for entry in report},
        rows={entry["table"]: entry["source_rows"] for entry in report},
    )
    return document


def _plain(table: catalog.Table, name: str, text: str) -> int | str:
    return int(text) if table.column(name).base_type in ("int2", "int4", "int8") else text


def _table(
    table: catalog.Table,
    compared: verify_compare.Compared,
    left: list[verify_compare.Difference],
    repaired: int,
    values_from: verify_compare.Pair | None,
) -> dict[str, Any]:
    differences = []
    for difference in compared.differences[:LISTED]:
        entry: dict[str, Any] = {
            "key": {name: _plain(table, name, text) for name, text in zip(table.key, difference.key, strict=True)},
            "kind": difference.kind,
            "columns": list(difference.columns),
        }
        if values_from is not None:
            entry["values"] = {"source": difference.source_values, "target": difference.target_values}
        differences.append(entry)
    return {
        "table": table.name,
        "source_rows": compared.source_rows,
        "target_rows": compared.target_rows,
        "source_checksum": compared.source_checksum,
        "target_checksum": compared.target_checksum,
        "match": not left and not compared.unsettled,
        "differences": differences,
        "differences_total": len(compared.differences),
        "repaired": repaired,
        "unsettled": compared.unsettled,
    }
