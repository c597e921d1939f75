-- Two sibling views: neither is built from the other.
select stores.store
from {{ ref('stg_stores') }} as stores
left join {{ ref('stg_events') }} as events
    on stores.store = events.store
where events.id is null
