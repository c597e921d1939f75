-- Built from all days of fct_orders, and read by the days of segment_sales.
select
    customer_id,
    count(*) as orders,
    case when count(*) >= {{ var('loyal_after_orders') }} then 'loyal' else 'new' end as segment
from {{ ref('fct_orders') }}
group by customer_id
