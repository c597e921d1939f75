"""The source's tables: a new raw table is one entry in `TABLES`."""

from dataclasses import dataclass
from typing import Literal

ColumnType = Literal["varchar", "bigint", "double", "boolean", "timestamp"]


@dataclass(frozen=True)
class Column:
    """A column of the export and of the lake, with the type (as DuckDB names it) that it has in the lake.

    An export with a row in which a `required` column is null or empty is wrong, and so is one with a number below the
    `minimum`. A key's columns and the event time are required by what they are.
    """

    name: str
    type: ColumnType
    description: str
    required: bool = False
    minimum: int | None = None


@dataclass(frozen=True)
class Table:
    """A table that the source exports.

    `key` names the columns that identify a row. A `daily` table is exported and loaded day by day; its
    `event_time`, where it has one, is the column whose value (UTC) must lie within the day.

    A wrong row fails its export, unless the export has no more than `max_quarantined_rows` of them: then these are set
    aside in a file of the quarantine, and the others are loaded.
    """

    name: str
    description: str
    columns: tuple[Column, ...]
    key: tuple[str, ...]
    daily: bool = False
    event_time: str | None = None
    max_quarantined_rows: int = 0

    def __post_init__(self) -> None:
        """Raise `ValueError` where the declaration contradicts itself."""
        types = {column.name: column.type for column in self.columns}
        if len(types) != len(self.columns):
            raise ValueError(f"table {self.name}: a column is declared twice")
        if not self.key or not set(self.key) <= set(types):
            raise ValueError(f"table {self.name}: key {self.key} must name one or more of its columns")
        if self.event_time is not None and (not self.daily or types.get(self.event_time) != "timestamp"):
            raise ValueError(f"table {self.name}: event_time must name a timestamp column of a daily table")
        for column in self.columns:
            if column.minimum is not None and column.type not in {"bigint", "double"}:
                raise ValueError(f"table {self.name}: column {column.name} has a minimum, and is no number")
        if self.max_quarantined_rows < 0:
            raise ValueError(f"table {self.name}: max_quarantined_rows {self.max_quarantined_rows} is below 0")

    @property
    def required(self) -> frozenset[str]:
        """The columns in which each row has a value."""
        event_time = () if self.event_time is None else (self.event_time,)
        return frozenset((*self.key, *event_time, *(column.name for column in self.columns if column.required)))

    @property
    def order(self) -> tuple[str, ...]:
        """The columns that put the rows in their one order: event time, then key."""
        first = () if self.event_time is None or self.event_time in self.key else (self.event_time,)
        return (*first, *self.key)


TABLES = (
    Table(
        name="customers",
        description="People who ordered at least once.",
        columns=(
            Column("id", "varchar", "Identifies the customer."),
            Column("name", "varchar", "Full name."),
        ),
        key=("id",),
    ),
    Table(
        name="products",
        description="What the shops sell.",
        columns=(
            Column("sku", "varchar", "Identifies the product."),
            Column("name", "varchar", "Name on the menu."),
            Column("type", "varchar", "Kind of product: jaffle or beverage."),
            Column("price", "bigint", "Price before tax, in cents.", minimum=0),
            Column("description", "varchar", "Text on the menu."),
        ),
        key=("sku",),
    ),
    Table(
        name="stores",
        description="The shops.",
        columns=(
            Column("id", "varchar", "Identifies the store."),
            Column("name", "varchar", "The store's city."),
            Column("opened_at", "timestamp", "When the store opened, UTC."),
            Column("tax_rate", "double", "Sales tax as a fraction of the price."),
        ),
        key=("id",),
    ),
    Table(
        name="supplies",
        description="What a product consumes: one row a supply and product.",
        columns=(
            Column("id", "varchar", "Identifies the supply."),
            Column("name", "varchar", "Name of the supply."),
            Column("cost", "bigint", "Cost of one, in cents.", minimum=0),
            Column("perishable", "boolean", "Whether the supply spoils."),
            Column("sku", "varchar", "The product that consumes the supply."),
        ),
        # One supply serves several products, and the source repeats its id for each.
        key=("id", "sku"),
    ),
    Table(
        name="orders",
        description="Orders, on the day (UTC) on which they were placed.",
        columns=(
            Column("id", "varchar", "Identifies the order."),
            Column("customer", "varchar", "The customer who ordered.", required=True),
            Column("ordered_at", "timestamp", "When the order was placed, UTC."),
            Column("store_id", "varchar", "The store that sold.", required=True),
            Column("subtotal", "bigint", "Sum of the items' prices, in cents.", minimum=0),
            Column("tax_paid", "bigint", "Sales tax, in cents.", minimum=0),
            Column("order_total", "bigint", "Subtotal and tax, in cents.", minimum=0),
        ),
        key=("id",),
        daily=True,
        event_time="ordered_at",
    ),
    Table(
        name="items",
        description="Items of the orders, on the day of their order.",
        columns=(
            Column("id", "varchar", "Identifies the item."),
            Column("order_id", "varchar", "The order that the item belongs to.", required=True),
            Column("sku", "varchar", "The product sold.", required=True),
        ),
        key=("id",),
        daily=True,
    ),
    Table(
        name="tweets",
        description="What customers wrote about the shops, on the day (UTC) of writing.",
        columns=(
            Column("id", "varchar", "Identifies the tweet."),
            Column("user_id", "varchar", "The customer who wrote."),
            Column("tweeted_at", "timestamp", "When it was written, UTC."),
            Column("content", "varchar", "The text."),
        ),
        key=("id",),
        daily=True,
        event_time="tweeted_at",
    ),
)
