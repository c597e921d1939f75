-- What the project has, by the project's own account.
select
    name,
    materialization
from (
    values {{ nodes_of_project() }}
) as nodes (name, materialization)
