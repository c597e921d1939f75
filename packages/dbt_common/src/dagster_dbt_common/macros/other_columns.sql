{#
  Refuses to write a model's rows into a table that has other columns than the model's SQL: with dbt's default,
  `on_schema_change: ignore`, a new column is left out without a word, and with `append_new_columns` one that the model
  lost stays, and one of another type is cast.
  Called where dbt has already changed the table as `on_schema_change` says.
#}
{% macro refuse_other_columns(arg_dict) -%}
    {%- set of_table = types_by_column(arg_dict['target_relation']) -%}
    {%- set of_model = types_by_column(arg_dict['temp_relation']) -%}
    {%- set more, fewer, others = [], [], [] -%}
    {%- for name, type in of_model.items() -%}
        {%- if name not in of_table -%}
            {%- do more.append(name) -%}
        {%- elif of_table[name] != type -%}
            {%- do others.append(name ~ ' (' ~ of_table[name] ~ ', now ' ~ type ~ ')') -%}
        {%- endif -%}
    {%- endfor -%}
    {%- for name in of_table if name not in of_model -%}
        {%- do fewer.append(name) -%}
    {%- endfor -%}
    {%- if more or fewer or others -%}
        {%- set said = [] -%}
        {%- for words, names in [('lacks', more), ('still has', fewer), ('has another type of', others)] if names -%}
            {%- do said.append(words ~ ' ' ~ names | join(', ')) -%}
        {%- endfor -%}
        {%- set setting = 'sync_all_columns' if fewer else 'append_new_columns' -%}
        {%- set or_set = '' if others else 'set on_schema_change: ' ~ setting ~ ', or ' -%}
        {{ exceptions.raise_compiler_error(
            "the table of " ~ model.name ~ " " ~ said | join(' and ') ~ ": " ~ or_set ~ full_refresh_hint()
        ) }}
    {%- endif -%}
{%- endmacro %}


{#
  The types of a relation's columns by name, in lower case.
#}
{% macro types_by_column(relation) -%}
    {{ return(adapter.dispatch('types_by_column')(relation)) }}
{%- endmacro %}

{% macro default__types_by_column(relation) -%}
    {%- set types = {} -%}
    {%- for column in adapter.get_columns_in_relation(relation) -%}
        {%- do types.update({column.name | lower: column.dtype | lower}) -%}
    {%- endfor -%}
    {{ return(types) }}
{%- endmacro %}

{#- What the adapter's method asks too, without its macro's context, which costs more than a batch's statement. -#}
{% macro duckdb__types_by_column(relation) -%}
    {%- set types = {} -%}
    {%- for row in run_query('describe ' ~ relation) -%}
        {%- do types.update({row[0] | lower: row[1] | lower}) -%}
    {%- endfor -%}
    {{ return(types) }}
{%- endmacro %}


{% macro full_refresh_hint() -%}
    {{ return('rebuild it by the job of its group that ends in __full_refresh') }}
{%- endmacro %}


{#
  `on_schema_change: sync_all_columns` changes types too, which DuckDB cannot commit together with the rows: its own
  message, of another transaction that has altered the table, names no way out.
#}
{% macro duckdb__alter_column_type(relation, column_name, new_column_type) -%}
    {{ exceptions.raise_compiler_error(
        "the table of " ~ model.name ~ " has another type of " ~ column_name | lower ~ " than " ~ new_column_type | lower
        ~ ", which DuckDB cannot change in a build: " ~ full_refresh_hint()
    ) }}
{%- endmacro %}


{#
  Refuses a batch whose table has other columns than the model, or whose hours are of a date.
#}
{% macro refuse_batch(arg_dict) -%}
    {%- do refuse_other_columns(arg_dict) -%}
    {%- set column = config.get('event_time') -%}
    {%- if config.get('batch_size') == 'hour' and is_date(column, arg_dict['dest_columns']) -%}
        {%- do refuse_date_of_hours(column) -%}
    {%- endif -%}
{%- endmacro %}


{#
  dbt-duckdb's strategy for microbatch, which it finds by this name in the project first.
#}
{% macro duckdb__get_incremental_microbatch_sql(arg_dict) -%}
    {%- do refuse_batch(arg_dict) -%}
    {{ return(meet_other_writers(arg_dict['target_relation']) ~ dbt.duckdb__get_incremental_microbatch_sql(arg_dict)) }}
{%- endmacro %}


{#
  dbt-postgres merges a batch by `unique_key`, which keeps what the source took back: here it replaces the batch's window,
  and needs no key.
#}
{% macro postgres__get_incremental_microbatch_sql(arg_dict) -%}
    {%- do refuse_batch(arg_dict) -%}
    {%- set column = config.get('event_time') -%}
    {%- set columns = get_quoted_csv(arg_dict['dest_columns'] | map(attribute='name')) -%}
    {#- As dbt narrows the inputs of a batch: both ends with an offset, which a timestamp without a zone leaves out. -#}
    {%- set start, end = model.batch.event_time_start, model.batch.event_time_end -%}
    {%- set of_batch = column ~ " >= '" ~ start ~ "' and " ~ column ~ " < '" ~ end ~ "'" -%}
    {{ meet_other_writers(arg_dict['target_relation']) }}
    delete from {{ arg_dict['target_relation'] }}
    where {{ of_batch }};

    insert into {{ arg_dict['target_relation'] }} ({{ columns }})
    select {{ columns }}
    from {{ arg_dict['temp_relation'] }}
    where {{ of_batch }}
{%- endmacro %}
