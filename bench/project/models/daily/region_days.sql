select
    stores.region,
    net.day,
    cast(sum(net.orders) as bigint) as orders,
    cast(sum(net.net_cents) as bigint) as net_cents
from {{ ref('net_days') }} as net
inner join {{ ref('stores') }} as stores
    on net.store_id = stores.store_id
where {{ in_window('net.day') }}
group by stores.region, net.day
