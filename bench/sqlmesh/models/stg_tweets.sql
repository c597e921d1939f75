MODEL (name shop.stg_tweets, kind VIEW);

SELECT id AS tweet_id, user_id AS customer_id, tweeted_at, content, day AS loaded_day
FROM READ_PARQUET(@lake || '/raw/tweets/day=*/data.parquet', hive_partitioning = TRUE)
