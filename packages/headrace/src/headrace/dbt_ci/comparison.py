"""What differs between a table or view of production and the same one as CI built it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from headrace.dbt_ci.report import Columns, Example, Rows
from headrace.dbt_ci.warehouse import Warehouse, literal, quoted

_FLOATS = ("FLOAT", "DOUBLE")
_CLOSE = 1e-9  # a sum of floats is another one in its last digits each time that threads add it up


@dataclass(frozen=True)
class Side:
    """One of the two.

    Args:
        relation: its quoted name.
        columns: the type of each of its columns.
        where: a predicate of the rows that are compared.
    """

    relation: str
    columns: Mapping[str, str]
    where: str = "true"

    def count(self, warehouse: Warehouse) -> int:
        """Return how many rows are compared."""
        [(rows,)] = warehouse.rows(f"select count(*) from {self.relation} where {self.where}")  # noqa: S608
        return int(rows)


def compared_columns(before: Mapping[str, str], after: Mapping[str, str]) -> Columns:
    """Return the columns that differ, by name and type."""
    return Columns(
        added={name: type_ for name, type_ in after.items() if name not in before},
        removed={name: type_ for name, type_ in before.items() if name not in after},
        retyped={name: (before[name], after[name]) for name in before if name in after and before[name] != after[name]},
    )


def compared_rows(
    warehouse: Warehouse,
    before: Side,
    after: Side,
    *,
    key: Sequence[str],
    one_in: int,
    examples: int,
) -> Rows:
    """Return the rows that differ, in the columns that both sides have.

    Args:
        warehouse: where both are.
        before: production's.
        after: what CI built.
        key: columns that tell rows apart. Where a side lacks one, or they do not, whole rows are counted.
        one_in: of how many rows one is compared, chosen by a hash of the key or of the whole row.
        examples: how many rows to show.
    """
    common = [name for name in before.columns if name in after.columns]
    known = list(key) if set(key) <= set(common) else []
    for used in (known, []) if known else ([],):
        for table, side in (("before", before), ("after", after)):
            hashed = ", ".join(f"cast({quoted(name)} as varchar)" for name in used or common)
            sampled = f"hash({hashed}) % {one_in} = 0" if one_in > 1 and hashed else "true"
            names = ", ".join(map(quoted, common)) or "1 as one"
            warehouse.connection.execute(
                f"create or replace temp table ci_{table} as "  # noqa: S608
                f"select {names} from {side.relation} where {side.where} and {sampled}"
            )
        if used and all(_tells_apart(warehouse, f"ci_{table}", used) for table in ("before", "after")):
            return _by_key(warehouse, before, after, key=used, one_in=one_in, examples=examples)
    counts = [
        warehouse.rows(f"select count(*) from (from {one} except all from {other})")[0][0]  # noqa: S608
        for one, other in (("ci_after", "ci_before"), ("ci_before", "ci_after"))
    ]
    return Rows((), counts[0], counts[1], 0, {}, (), one_in)


def _tells_apart(warehouse: Warehouse, table: str, key: Sequence[str]) -> bool:
    columns = ", ".join(map(quoted, key))
    missing = " or ".join(f"{quoted(name)} is null" for name in key)
    [(rows, keys, nulls)] = warehouse.rows(
        f"select count(*), count(distinct row({columns})), count(*) filter (where {missing}) from {table}"  # noqa: S608
    )
    return bool(rows == keys and nulls == 0)


def _by_key(warehouse: Warehouse, old: Side, new: Side, *, key: Sequence[str], one_in: int, examples: int) -> Rows:
    before, after = old.columns, new.columns
    common = [name for name in before if name in after]
    values = [name for name in common if name not in key]
    differing = ", ".join(f"case when {_differs(name, before, after)} then {literal(name)} end" for name in values)
    same = " and ".join(f"cast(b.{quoted(name)} as varchar) = cast(a.{quoted(name)} as varchar)" for name in key)
    first = quoted(key[0])
    keys = ", ".join(
        f"coalesce(cast(a.{quoted(n)} as varchar), cast(b.{quoted(n)} as varchar)) as k{i}" for i, n in enumerate(key)
    )
    warehouse.connection.execute(
        f"create or replace temp table ci_rows as from (select {keys}, "  # noqa: S608
        f"case when b.{first} is null then 'added' when a.{first} is null then 'removed' else 'changed' end as change, "
        f"list_filter([{differing or 'null'}], lambda name: name is not null) as columns "
        f"from ci_before as b full outer join ci_after as a on {same}) "
        "where change != 'changed' or len(columns) > 0"
    )
    counts = dict(warehouse.rows("select change, count(*) from ci_rows group by change"))
    columns = warehouse.rows(
        "select name, count(*) from (select unnest(columns) as name from ci_rows where change = 'changed') "
        "group by name order by count(*) desc, name"
    )
    shown = warehouse.rows(
        f"from ci_rows order by change desc, {', '.join(f'k{i}' for i in range(len(key)))} limit {examples}"
    )
    return Rows(
        key=key,
        added=counts.get("added", 0),
        removed=counts.get("removed", 0),
        changed=counts.get("changed", 0),
        columns=dict(columns),
        examples=[
            Example(dict(zip(key, row, strict=False)), row[-2], row[-1] if row[-2] == "changed" else [])
            for row in shown
        ],
        one_in=one_in,
    )


def _differs(name: str, before: Mapping[str, str], after: Mapping[str, str]) -> str:
    old, new = f"b.{quoted(name)}", f"a.{quoted(name)}"
    if before[name] != after[name]:
        old, new = f"cast({old} as varchar)", f"cast({new} as varchar)"
    elif before[name] in _FLOATS:
        apart = f"abs({old} - {new}) > {_CLOSE} * greatest(abs({old}), abs({new}))"
        return f"{old} is distinct from {new} and coalesce({apart}, true)"
    return f"{old} is distinct from {new}"


def sampling(rows: Sequence[int], limit: int) -> int:
    """Return of how many rows one is compared, so that no side has more than about `limit`."""
    return max(1, *(-(-count // limit) for count in rows))
