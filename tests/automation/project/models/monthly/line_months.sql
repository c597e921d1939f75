select * from {{ ref('lines') }} where {{ in_window('ordered_at') }}
