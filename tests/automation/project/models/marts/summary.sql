select * from {{ ref('customers') }} left join {{ ref('line_months') }} using (id) left join {{ ref('trailing') }} using (id)
