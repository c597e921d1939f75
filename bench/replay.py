"""The SQL alone: the statements that dbt sent for a partition, from its log, in DuckDB and nothing else."""

import json
import sys
import time
from pathlib import Path

import duckdb

from bench.child import MARK


def statements(dbt_log: Path) -> dict[str, list[str]]:
    """Return the statements of each node in the order in which dbt began the nodes, from a log in JSON."""
    by_node: dict[str, list[str]] = {}
    for line in dbt_log.read_text().splitlines():
        event = json.loads(line)
        node = event["data"].get("node_info", {}).get("unique_id")
        if event["info"]["name"] == "SQLQuery" and node:
            by_node.setdefault(node, []).append(event["data"]["sql"])
    return by_node


def main(saved: Path, warehouse: Path) -> None:
    """Run the saved statements, a cursor for each node as dbt has it, and say how many seconds they took."""
    by_node: dict[str, list[str]] = json.loads(saved.read_text())
    start = time.perf_counter()
    with duckdb.connect(str(warehouse), config={"autoinstall_known_extensions": False}) as connection:
        for of_node in by_node.values():
            with connection.cursor() as cursor:
                for statement in of_node:
                    cursor.execute(statement).fetchall()
    sys.stdout.write(f"{MARK}{json.dumps({'seconds': time.perf_counter() - start})}\n")


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
