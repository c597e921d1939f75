{{ config(
    materialized='incremental',
    incremental_strategy='microbatch',
    event_time='month',
    batch_size='month',
    begin='2024-03-01',
    lookback=0,
) }}

select
    date_trunc('month', issued_at)::timestamp as month,
    count(*) as invoices,
    cast(sum(amount_cents) as bigint) as amount_cents
from {{ ref('fct_invoices') }}
group by date_trunc('month', issued_at)
