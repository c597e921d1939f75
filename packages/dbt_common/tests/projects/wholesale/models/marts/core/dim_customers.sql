select
    customers.customer_id,
    customers.customer_name,
    terms.payment_days
from {{ ref('stg_erp__customers') }} as customers
left join {{ ref('customer_terms') }} as terms
    on customers.customer_id = terms.customer_id and terms.dbt_valid_to is null
