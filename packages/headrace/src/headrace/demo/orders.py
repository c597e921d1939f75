"""The orders of the demo data, with their items and tweets, for a range of days, as SQL for DuckDB."""

# A row depends on the seed, its day, its wave (0, or the number of the revision that added it) and its number
# within them; how many there are depends on orders_per_day and the day. Nothing depends on the range.
EVENT_TABLES = """
create or replace temp table days as
with calendar as (
    select unnest(generate_series(
        getvariable('first_day')::timestamp, getvariable('last_day')::timestamp, interval 1 day
    ))::date as day
),
open_stores as (
    select day, list(number order by number) as store_slots
    from calendar, stores, range(popularity)
    where opened_at <= day
    group by day
)
select
    day,
    store_slots,
    customers_by(day) as customers,
    greatest(1, round(
        getvariable('orders_per_day') * level(day)
        * [0.85, 0.85, 0.9, 0.95, 1.1, 1.25, 1.1][isodow(day)]
        * [0.92, 0.94, 0.98, 1.0, 1.03, 1.06, 1.08, 1.05, 1.0, 0.98, 0.96, 1.0][month(day)]
        * (0.92 + 0.16 * draw(getvariable('seed') || ':demand:' || day))
    ))::int as orders
from calendar
join open_stores using (day);

create or replace temp table placed as
with waves as (
    select days.*, wave, if(wave = 0, orders, greatest(3, orders // 50)) as wave_orders
    from days
    left join revisions using (day), range(coalesce(revisions.waves, 0) + 1) as t(wave)
),
numbered as (
    select
        *, 1 + wave_orders // 200 as midnights,
        md5(concat_ws(':', getvariable('seed'), day, wave, number)) as key
    from waves, range(wave_orders) as t(number)
)
select
    day, wave, key, customers,
    pick(store_slots, key || ':store') as store,
    number >= midnights + 2 as in_opening_hours,
    case
        when number < midnights then day::timestamp
        when number = midnights then day + interval '23:59:59'
        when number = midnights + 1 then day + interval '23:59:59.999999'
        else day + to_seconds(floor(draw(key || ':second') * 3600)::int + 3600 * if(
            isodow(day) < 6,
            pick([
                7, 7, 8, 8, 8, 8, 9, 9, 10, 11, 12, 12, 12, 12, 12, 13, 13, 13, 14, 15, 16, 17, 18, 18, 19, 20
            ], key || ':hour'),
            pick([
                8, 9, 9, 10, 10, 10, 11, 11, 11, 11, 12, 12, 12, 13, 13, 14, 14, 15, 16, 17, 18, 19
            ], key || ':hour')
        ))
    end as ordered_at
from numbered;

create or replace temp table items as
select
    uid(key || ':item:' || number) as id,
    key::uuid::varchar as order_id,
    if(
        ordered_at < day + interval 11 hours,
        pick([1, 2, 5, 5, 7, 7, 7, 8, 8, 8, 9, 9, 9, 10], key || ':sku:' || number),
        pick([1, 1, 1, 2, 2, 3, 3, 4, 5, 6, 6, 7, 8, 9, 10, 10], key || ':sku:' || number)
    ) as product,
    if(product <= 5, 'JAF-00' || product, 'BEV-00' || product - 5) as sku,
    number,
    day
from placed, range(pick([1, 1, 1, 1, 2, 2, 2, 3, 3, 4, 5], key || ':size')) as t(number)
order by ordered_at, key, number;

-- A tenth of the skew is even: the most loyal customer orders ten times the mean, and not beyond reason.
-- Numbers that leave the same rest by 7 live near the same store.
create or replace temp table orders as
with skewed as (
    select
        *, key::uuid::varchar as id,
        0.1 * draw(key || ':customer') + 0.9 * draw(key || ':customer') * draw(key || ':customer') as rank
    from placed
),
baskets as (
    select order_id as id, sum(price)::bigint as subtotal
    from items
    join products using (sku)
    group by order_id
)
select
    skewed.id,
    customer_id(if(
        draw(key || ':home') < 0.85,
        floor(customers // 7 * rank)::int * 7 + store,
        floor(customers * rank)::int
    )) as customer,
    ordered_at,
    stores.id as store_id,
    subtotal,
    round(subtotal * tax_rate::decimal(6, 5))::bigint as tax_paid,
    subtotal + tax_paid as order_total,
    day
from skewed
join baskets using (id)
join stores on stores.number = store
order by ordered_at, skewed.id;

create or replace temp table tweets as
select
    uid(key || ':tweet') as id,
    customer as user_id,
    placed.ordered_at
    + to_microseconds(60000000 + floor(draw(key || ':delay') * 1740000000)::bigint) as tweeted_at,
    replace(replace(pick([
        'Jaffles from the Jaffle Shop are the best! Ordered a {product}.',
        '"{product}", they said. "You will love it", they said. I do 😍',
        'Jaffle shop is fine, just fine. {product}, again.',
        'meh. {product} was cold, the queue long, the music loud 👎',
        'Who named it "{product}"? Give them a raise, or a break, or both',
        '{store}: come for the {product}, stay for the wi-fi ☕🥪',
        'My {product} said "hot", it was "lukewarm". It''s 2/10, sorry',
        '100% worth it; {product} > everything else \\o/',
        'Día perfecto: sol, amigos y un {product} 🌞',
        '今日のランチは {product} 🥪 おいしい!',
        '#jaffle, #{store}, #happy',
        '"'
    ], key || ':words'), '{product}', products.name), '{store}', stores.name) as content,
    placed.day
from placed
join orders on orders.id = key::uuid::varchar
join items on items.order_id = orders.id and items.number = 0
join products using (sku)
join stores on stores.number = store
where wave = 0 and in_opening_hours and draw(key || ':tweets') < 0.2
order by tweeted_at, key;
"""
