{{ config(event_time='day') }}

select
    days.warehouse_id,
    days.day,
    days.value_cents - targets.target_cents as above_target_cents
from {{ ref('daily_sales') }} as days
inner join {{ ref('sales_targets') }} as targets
    on days.warehouse_id = targets.warehouse_id and date_trunc('month', days.day) = targets.month
where {{ in_window('days.day') }}
