select * from {{ ref('stg_names') }} left join {{ ref('orders') }} using (id) left join {{ ref('lines') }} using (id)
