{#
  A model that is built by windows may give rows of its window alone. What comes from outside was read by a filter that
  is missing, commented out, or of another time zone: the first build of a missing table would keep it, though no run has
  recorded it, and each later one would lose as much at the window's other end. So such a row fails the build. A row
  without a time is of no window, and is left out.

  dbt's own macro by which each materialization makes a table, temporary ones too:
  https://docs.getdbt.com/reference/dbt-jinja-functions/dispatch
#}
{% macro duckdb__create_table_as(
    temporary, relation, compiled_code, language='sql', partitioned_by=none, sorted_by=none
) -%}
    {{ return(dbt.duckdb__create_table_as(
        temporary, relation, rows_of_window(compiled_code, language), language,
        partitioned_by=partitioned_by, sorted_by=sorted_by
    )) }}
{%- endmacro %}

{% macro postgres__create_table_as(temporary, relation, sql) -%}
    {{ return(dbt.postgres__create_table_as(temporary, relation, rows_of_window(sql))) }}
{%- endmacro %}


{% macro rows_of_window(sql, language='sql') -%}
    {%- set column = config.get('event_time') -%}
    {%- if language != 'sql' or not column or not is_built_by_windows() -%}
        {{ return(sql) }}
    {%- endif -%}
    {%- if config.get('incremental_strategy') == 'microbatch' -%}
        {%- if not model.get('batch') -%}
            {{ return(sql) }}
        {%- endif -%}
        {%- set start, end = model.batch.event_time_start, model.batch.event_time_end -%}
        {%- set inside = column ~ " >= '" ~ start ~ "' and " ~ column ~ " < '" ~ end ~ "'" -%}
        {%- set is_of_zones = true -%}
    {%- else -%}
        {%- if not partition_window() -%}
            {{ return(sql) }}
        {%- endif -%}
        {%- set start, end = partition_window() -%}
        {%- set inside = in_window(column) -%}
        {%- set is_of_zones = session_zone() == 'UTC' or knows_zones() in sql -%}
    {%- endif -%}
    {%- set window = 'from ' ~ start ~ ' to ' ~ end ~ ' UTC' -%}
    {%- set outside = model.name ~ ': a row outside of its window, ' ~ window ~ ': filter by in_window(' ~ column ~ '); ' ~ column ~ ': ' -%}
    {%- set shifted = model.name ~ ": the variables min_date and max_date are read in the session's zone, which is not UTC: filter by in_window(" ~ column ~ '); ' ~ column ~ ': ' -%}
    select *
    from (
        {{ sql }}
    ) as rows_of_window
    where case
        when {{ column }} is null then false
        {%- if not is_of_zones %}
        when {{ has_time_zone(column) }} then {{ fails_with(shifted, column) }}
        {%- endif %}
        when {{ inside }} then true
        else {{ fails_with(outside, column) }}
    end
{%- endmacro %}


{% macro is_built_by_windows() -%}
    {{ return(
        model.config.get('materialized') == 'incremental'
        and config.get('incremental_strategy') in ('delete_window+insert', 'microbatch')
    ) }}
{%- endmacro %}


{#- What `in_window` leaves in the SQL where the session has another zone than UTC. -#}
{% macro knows_zones() -%}
    {{ return('/* in_window of any zone */') }}
{%- endmacro %}


{#- A condition that never holds: for a row that reaches it, the query fails with a message that ends in the value. -#}
{% macro fails_with(message, column) -%}
    {{ return(adapter.dispatch('fails_with')("'" ~ message | replace("'", "''") ~ "'", column)) }}
{%- endmacro %}

{#- No warehouse that is not known here is asked for an error: there the row is left out. -#}
{% macro default__fails_with(message, column) -%}
    false
{%- endmacro %}

{% macro duckdb__fails_with(message, column) -%}
    error({{ message }} || {{ column }}) is null
{%- endmacro %}

{#- Postgres has no such function: what fails is a cast, of the column too, so that it is not tried beforehand. -#}
{% macro postgres__fails_with(message, column) -%}
    cast({{ message }} || {{ column }} as integer) is null
{%- endmacro %}

{% macro spark__fails_with(message, column) -%}
    raise_error(concat({{ message }}, cast({{ column }} as string))) is null
{%- endmacro %}


{% macro has_time_zone(column) -%}
    {{ return(adapter.dispatch('has_time_zone')(column)) }}
{%- endmacro %}

{% macro default__has_time_zone(column) -%}
    false
{%- endmacro %}

{% macro duckdb__has_time_zone(column) -%}
    typeof({{ column }}) = 'TIMESTAMP WITH TIME ZONE'
{%- endmacro %}

{% macro postgres__has_time_zone(column) -%}
    pg_typeof({{ column }})::text = 'timestamp with time zone'
{%- endmacro %}
