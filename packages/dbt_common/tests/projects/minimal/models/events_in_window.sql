{{ config(materialized='ephemeral') }}

select
    id,
    occurred_at,
    store,
    amount
from {{ ref('stg_events') }}
where {{ in_window('occurred_at') }}
