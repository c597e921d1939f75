select
    order_id,
    count(*) as lines,
    cast(sum(value_cents) as bigint) as value_cents
from {{ ref('int_line_values') }}
group by order_id
