select
    days.store,
    names.name,
    cast(sum(days.events) as bigint) as events,
    cast(sum(days.amount) as bigint) as amount
from {{ ref('store_days') }} as days
left join {{ ref('store_names') }} as names
    on days.store = names.store
group by days.store, names.name
