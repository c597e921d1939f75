{{ config(materialized='view') }}

select
    id,
    occurred_at,
    store,
    cast(amount as bigint) as amount
from {{ source('raw', 'events') }}
