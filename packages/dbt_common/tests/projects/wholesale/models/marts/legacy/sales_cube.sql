{{ config(enabled=false) }}

select * from {{ ref('a_model_that_is_gone') }}
