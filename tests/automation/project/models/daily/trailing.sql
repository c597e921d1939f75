{{ config(meta={'dagster': {'partitions': {'grain': 'day', 'start': env_var('FIRST_DAY'), 'lookback': 1}}}) }}
select * from {{ ref('stg_orders') }} where {{ in_window('ordered_at') }}
