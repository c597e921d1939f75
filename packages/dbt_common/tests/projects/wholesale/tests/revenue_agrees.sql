-- Three accounts of the same money.
with accounts as (
    select
        'lines' as account,
        sum(value_cents) as value_cents
    from {{ ref('fct_order_lines') }}
    union all
    select
        'days' as account,
        sum(value_cents) as value_cents
    from {{ ref('daily_sales') }}
    union all
    select
        'segments' as account,
        sum(value_cents) as value_cents
    from {{ ref('segment_sales') }}
)

select count(distinct value_cents) as sums
from accounts
having count(distinct value_cents) > 1
