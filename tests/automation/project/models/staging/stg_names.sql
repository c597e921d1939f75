select * from {{ source('raw', 'names') }}
