{#
  Every store has, in every period of the column, the orders and the revenue that `orders` has: no period is missing,
  stale or counted twice. The column is named for its period, `hour` or `month`.
#}
{% test agrees_with_orders(model, column_name, orders) %}

with

expected as (
    select
        store_id,
        {{ dbt.date_trunc(column_name, 'ordered_at') }} as period,
        count(*) as orders,
        sum(order_total_cents) as revenue_cents
    from {{ orders }}
    where {{ in_window_or_all('ordered_at') }}
    group by 1, 2
),

actual as (
    select
        store_id,
        {{ column_name }} as period,
        orders,
        revenue_cents
    from {{ model }}
    where {{ in_window_or_all(column_name) }}
)

select
    coalesce(expected.store_id, actual.store_id) as store_id,
    coalesce(expected.period, actual.period) as period,
    expected.orders as expected_orders,
    actual.orders as actual_orders,
    expected.revenue_cents as expected_revenue_cents,
    actual.revenue_cents as actual_revenue_cents
from expected
full outer join actual
    on
        expected.store_id = actual.store_id
        and expected.period = actual.period
where
    expected.orders is distinct from actual.orders
    or expected.revenue_cents is distinct from actual.revenue_cents

{% endtest %}
