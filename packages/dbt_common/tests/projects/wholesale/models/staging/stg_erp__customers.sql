select
    customer_id,
    customer_name,
    payment_days,
    updated_at
from {{ source('erp', 'customers') }}
