"""The jaffle shop of the demo data: its stores, menu, supplies and customers, as SQL for DuckDB."""

from datetime import date

FIRST_DAY = date(2015, 9, 1)
"""The day on which the first store opened: no demo data before it."""

# md5 rather than random() or hash(): a draw then depends on its key alone, not on threads, row order or the
# version of DuckDB. 53 bits fill a double, so that a draw is always below 1.
MACROS = """
create macro draw(key) as (md5_number_lower(key) >> 11) / 9007199254740992.0;
create macro pick(slots, key) as slots[1 + floor(draw(key) * len(slots))::int];
create macro uid(key) as md5(key)::uuid::varchar;
create macro store_id(number) as uid(getvariable('seed') || ':store:' || number);
create macro customer_id(number) as uid(getvariable('seed') || ':customer:' || number);
-- Linear around 2024, so that a day does not depend on the range that is asked for.
create macro level(day) as 1 + 0.1 * (day - date '2024-01-01') / 365.25;
create macro customers_by(day) as greatest(70, ceil(10 * getvariable('orders_per_day') * level(day)))::int;
"""

# Popularity is a store's share of the orders among the open stores; 0 is a store that never sold anything.
# Prices are whole hundreds, rates multiples of 0.002: no tax is half a cent, so any way of rounding agrees.
REFERENCE_TABLES = """
create table stores as
select store_id(number) as id, name, opened_at::timestamp as opened_at, tax_rate::double as tax_rate,
    number, popularity
from (values
    (0, 'Philadelphia', '2015-09-01', 0.06, 8),
    (1, 'Brooklyn, New York', '2017-03-12', 0.088, 9),
    (2, 'São Paulo', '2019-04-28', 0.064, 7),
    (3, 'Chicago "The Loop"', '2021-05-08', 0.076, 6),
    (4, 'Reykjavík', '2023-11-06', 0.048, 0),
    (5, 'Coeur d''Alene', '2024-02-12', 0.056, 4),
    (6, 'Zürich', '2025-05-02', 0.082, 5)
) as t(number, name, opened_at, tax_rate, popularity)
order by number;

create table products as
select sku, name, type, price::bigint as price, description
from (values
    ('JAF-001', 'ham solo', 'jaffle', 1100, 'ham, gruyère and a spoon of mustard'),
    ('JAF-002', 'jalapeño business', 'jaffle', 1200, 'pulled pork, jalapeños, "a bit" of ghost pepper'),
    ('JAF-003', 'krautrock', 'jaffle', 1200, 'bratwurst with house-pickled cabbage, Düsseldorf mustard'),
    ('JAF-004', 'shiitake happens', 'jaffle', 1400, 'shiitake and minced beef, in a sweet-and-savory glaze'),
    ('JAF-005', 'crème de la crêpe', 'jaffle', 900, 'banana and hazelnut cream'),
    ('BEV-001', 'mango unchained', 'beverage', 600, 'mango and tangerine smoothie'),
    ('BEV-002', 'chai another day', 'beverage', 500, 'oat milk chai latte'),
    ('BEV-003', 'café olé', 'beverage', 600, 'iced coffee with vanilla syrup'),
    ('BEV-004', 'filter bubble', 'beverage', 700, 'pourover of the day, single estate'),
    ('BEV-005', 'lime after lime', 'beverage', 400, 'kiwi and lime agua fresca')
) as t(sku, name, type, price, description);

-- As jafgen does, a supply is repeated for every product that needs it: the key is (id, sku).
create table supplies as
select 'SUP-' || lpad(number::varchar, 3, '0') as id, name, cost::bigint as cost, perishable, sku
from (values
    (1, 'compostable knife', 7, false, ['JAF-001', 'JAF-002', 'JAF-003', 'JAF-004', 'JAF-005']),
    (2, 'compostable fork', 7, false, ['JAF-001', 'JAF-002', 'JAF-003', 'JAF-004', 'JAF-005']),
    (3, 'serving boat', 11, false, ['JAF-001', 'JAF-002', 'JAF-003', 'JAF-004', 'JAF-005']),
    (4, 'napkin, 2-ply', 4, false, ['JAF-001', 'JAF-002', 'JAF-003', 'JAF-004', 'JAF-005']),
    (5, '16oz clear cup', 13, false, ['BEV-001', 'BEV-002', 'BEV-003', 'BEV-004', 'BEV-005']),
    (6, '16oz clear lid', 4, false, ['BEV-001', 'BEV-003', 'BEV-005']),
    (7, 'paper straw', 13, false, ['BEV-001', 'BEV-003', 'BEV-005']),
    (8, 'bread', 33, true, ['JAF-001', 'JAF-002', 'JAF-003', 'JAF-004', 'JAF-005']),
    (9, 'gruyère', 42, true, ['JAF-001']),
    (10, 'ham', 88, true, ['JAF-001']),
    (11, 'mustard', 7, true, ['JAF-001', 'JAF-003']),
    (12, 'pulled pork', 215, true, ['JAF-002']),
    (13, 'pickled jalapeños', 26, true, ['JAF-002']),
    (14, 'bratwurst', 234, true, ['JAF-003']),
    (15, 'house-pickled cabbage', 43, true, ['JAF-003']),
    (16, 'shiitake', 96, true, ['JAF-004']),
    (17, 'minced beef', 124, true, ['JAF-004']),
    (18, 'banana', 13, true, ['JAF-005']),
    (19, 'hazelnut cream', 46, true, ['JAF-005']),
    (20, 'mango', 32, true, ['BEV-001']),
    (21, 'tangerine', 20, true, ['BEV-001']),
    (22, 'chai mix', 98, true, ['BEV-002']),
    (23, 'oat milk', 11, true, ['BEV-002']),
    (24, 'coffee', 52, true, ['BEV-003', 'BEV-004']),
    (25, 'vanilla syrup', 72, true, ['BEV-003']),
    (26, 'kiwi', 20, true, ['BEV-005']),
    (27, 'lime', 13, true, ['BEV-005'])
) as t(number, name, cost, perishable, skus), unnest(skus) as u(sku)
order by sku, number;

create table customers as
with numbered as (
    select number, getvariable('seed') || ':name:' || number as key
    from range(customers_by(getvariable('day_of_customers'))) as t(number)
)
select
    customer_id(number) as id,
    pick([
        'Amélie', 'Ana', 'Anders', 'Béatrice', 'Björn', 'Chloë', 'Dmytro', 'Dora', 'Elena', 'Emeka',
        'Farah', 'François', 'Grace', 'Hana', 'Hiroshi', 'İpek', 'Ivan', 'Jane', 'João', 'José',
        'Jürgen', 'Karen', 'Lê', 'Liam', 'Łukasz', 'Mary-Jo', 'Mei', 'Noah', 'Núria', 'Olga', 'Óscar',
        'Priya', 'Renée', 'Siobhán', 'Søren', 'Theo', 'Uma', 'Yusuf', 'Zoë', '美咲'
    ], key || ':first')
    || if(draw(key || ':nick') < 0.02, ' "' || pick(['Ace', 'Buddy', 'Pepe', 'Toastie'], key) || '"', '')
    || ' '
    || pick([
        'Åberg', 'Almeida', 'Brontë', 'Çelik', 'D''Angelo', 'Dvořák', 'Eze', 'Fernández', 'García',
        'Grünewald', 'Haddad', 'Ivanova', 'Johnson', 'Kowalski', 'Kvale', 'Lefèvre', 'Li', 'Martínez',
        'Meyer-Groß', 'Moreau', 'Müller', 'Nguyễn', 'Novák', 'Nuñez', 'O''Brien', 'Okafor', 'Ødegård',
        'Patel', 'Peña', 'Quinn', 'Rossi', 'Sato', 'Schröder', 'Silva', 'Smith', 'Ström', 'Tanaka',
        'van der Berg', 'Williams', 'Żak'
    ], key || ':last')
    || if(draw(key || ':suffix') < 0.02, pick([', Jr.', ', PhD', ' III'], key), '') as name
from numbered
order by number;
"""
