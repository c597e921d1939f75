select
    id as tweet_id,
    user_id as customer_id,
    tweeted_at,
    content,
    day as loaded_day
from {{ source('raw', 'tweets') }}
