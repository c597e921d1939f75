select * from {{ ref('stg_orders') }} where {{ in_window('ordered_at') }}
