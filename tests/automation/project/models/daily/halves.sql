{{ config(meta={'dagster': {'partitions': {'grain': '0 */12 * * *', 'start': env_var('FIRST_DAY')}}}) }}
select * from {{ ref('orders') }} where {{ in_window('ordered_at') }}
