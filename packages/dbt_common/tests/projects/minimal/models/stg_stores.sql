{{ config(materialized='view') }}

select distinct store
from {{ source('raw', 'events') }}
