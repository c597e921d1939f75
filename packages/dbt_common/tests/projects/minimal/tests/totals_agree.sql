select totals.store
from {{ ref('totals') }} as totals
left join (
    select
        store,
        count(*) as events
    from {{ ref('events_daily') }}
    group by store
) as daily
    on totals.store = daily.store
where totals.events is distinct from daily.events
