{#
  The incremental strategy `delete_window+insert`: replaces exactly the rows of the run's window, in one transaction.

  dbt's own `delete+insert` deletes the keys that come in, so a row that the source took back stays for ever, and a
  window that became empty is not emptied. Deleting by the window makes an incremental build equal to a full one.
  The column is the model's `event_time` (dbt's own config for it).
#}
{% macro get_incremental_delete_window_insert_sql(arg_dict) -%}
    {%- set column = config.get('event_time') -%}
    {%- if not column -%}
        {{ exceptions.raise_compiler_error(
            "incremental_strategy='delete_window+insert' of " ~ model.name
            ~ " needs the config `event_time`: the column of the window"
        ) }}
    {%- endif -%}
    {%- do refuse_other_columns(arg_dict) -%}
    {%- set columns = get_quoted_csv(arg_dict['dest_columns'] | map(attribute='name')) -%}
    {#- A date is one of the partitions' zone, whatever the session's: it is compared with days, not with instants. -#}
    {%- set type = 'date' if is_date(column, arg_dict['dest_columns']) else none -%}
    {%- if type and not window_is_of_days() -%}
        {%- do refuse_date_of_hours(column) -%}
    {%- endif -%}

    {{ meet_other_writers(arg_dict['target_relation']) }}
    delete from {{ arg_dict['target_relation'] }}
    where {{ in_window(column, type) }};

    insert into {{ arg_dict['target_relation'] }} ({{ columns }})
    select {{ columns }}
    from {{ arg_dict['temp_relation'] }}
    where {{ in_window(column, type) }}
{%- endmacro %}


{#
  Has two writers of one table meet: a delete that finds no row meets nothing, so the first load of a window, made twice
  at once, would be there twice.
#}
{% macro meet_other_writers(relation) -%}
    {{ return(adapter.dispatch('meet_other_writers')(relation)) }}
{%- endmacro %}

{% macro default__meet_other_writers(relation) -%}
{%- endmacro %}

{#-
  Of a DuckLake one of the two fails, and its step is run again: a comment is a change of the table itself (seen with
  DuckLake 1.5.5; `tests/engines/test_ducklake.py`).
-#}
{% macro duckdb__meet_other_writers(relation) -%}
    {%- if adapter.is_ducklake(relation) -%}
        comment on table {{ relation }} is 'last written by the dbt invocation {{ invocation_id }}';
    {%- endif -%}
{%- endmacro %}

{#- The second one waits for the first one's end, and its delete then sees what that wrote; readers go on. -#}
{% macro postgres__meet_other_writers(relation) -%}
    lock table {{ relation }} in share row exclusive mode;
{%- endmacro %}


{% macro is_date(column, columns) -%}
    {%- set types = [] -%}
    {%- for each in columns if each.name | lower == column | lower -%}
        {%- do types.append(each.data_type | lower) -%}
    {%- endfor -%}
    {{ return(types == ['date']) }}
{%- endmacro %}


{% macro refuse_date_of_hours(column) -%}
    {{ exceptions.raise_compiler_error(
        "event_time " ~ column ~ " of " ~ model.name ~ " is a date, and its partitions do not begin at midnight: "
        ~ "take a timestamp as event_time"
    ) }}
{%- endmacro %}
