{#
  Keeps a DuckLake small: merges small files, and removes snapshots that are older than some days, and the files that only
  they had. Each build leaves a snapshot, by which the rows of that moment can still be read, and files; a microbatch one
  for each batch. What no snapshot ever had, after a killed build, is left: `ducklake_delete_orphaned_files` would take
  the files of another catalog in the same folder too.

  Files of a build that goes on, or of a query, are younger than a day: so one is the least.
  https://ducklake.select/docs/stable/duckdb/maintenance/recommended_maintenance
#}
{% macro maintain_ducklake(keep_days=7) -%}
    {%- if keep_days is not integer or keep_days < 1 -%}
        {{ exceptions.raise_compiler_error("keep_days " ~ keep_days ~ ": a number of days, 1 at least") }}
    {%- endif -%}
    {%- set lake = "'" ~ target.database ~ "'" -%}
    {%- set older = "older_than => now() - interval '" ~ keep_days ~ " days'" -%}
    {%- for command in [
        "ducklake_merge_adjacent_files(" ~ lake ~ ")",
        "ducklake_rewrite_data_files(" ~ lake ~ ")",
        "ducklake_expire_snapshots(" ~ lake ~ ", " ~ older ~ ")",
        "ducklake_cleanup_old_files(" ~ lake ~ ", " ~ older ~ ")",
    ] -%}
        {#- Each is a transaction of its own. -#}
        {%- call statement('maintained', fetch_result=true, auto_begin=false) -%}
            call {{ command }}
        {%- endcall -%}
        {%- do log(command ~ ": " ~ load_result('maintained')['data'] | length, info=true) -%}
    {%- endfor -%}
{%- endmacro %}
