select *
from {{ ref('orders') }}
inner join {{ ref('stg_items_again') }} using (id)
inner join {{ ref('kinds') }} using (kind)
where {{ in_window('ordered_at') }}
