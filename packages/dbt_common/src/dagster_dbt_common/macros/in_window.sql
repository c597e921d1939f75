{#
  The window of the partitions that this run builds, as a predicate: half-open, `>= start and < end`.

  It applies on the first run of a model too: under `is_incremental()` alone, the first partition of a missing table
  would load all of history while Dagster records one partition.

  column     an expression of the window's type: a timestamp in UTC, or a date
  data_type  what both ends are cast to; `date` gives the days that the window touches, so that a reader of files by
             day can prune: an hour's window then is its whole day, which the timestamp's own filter narrows
#}
{% macro in_window(column, data_type=none) -%}
    {%- if not execute -%}
        {{ return('(1 = 1)') }}
    {%- endif -%}
    {%- set window = partition_window() -%}
    {%- if window is none -%}
        {{ exceptions.raise_compiler_error(
            "in_window(" ~ column ~ ") needs the window of a partition: materialize the model's partition in Dagster, "
            ~ "or pass both ends, --vars '{min_date: \"2024-01-01\", max_date: \"2024-01-02\"}' (the end is exclusive)"
        ) }}
    {%- endif -%}
    {%- set start, end = window -%}
    {%- if data_type == 'date' -%}
        {%- set last_moment = end - modules.datetime.timedelta(microseconds=1) -%}
        {%- set start, end = start.date(), last_moment.date() + modules.datetime.timedelta(days=1) -%}
    {%- endif -%}
    {%- set type = data_type or dbt.type_timestamp() -%}
    ({{ column }} >= cast('{{ start }}' as {{ type }}) and {{ column }} < cast('{{ end }}' as {{ type }}))
{%- endmacro %}


{#
  For tests: the run's window where it has one, so that a partition's run does not test all of history again; without
  a window, as in `dbt test` by hand, everything.
#}
{% macro in_window_or_all(column, data_type=none) -%}
    {{ return(in_window(column, data_type) if execute and partition_window() else '(1 = 1)') }}
{%- endmacro %}


{#
  Both ends of the window as datetimes in UTC without a zone, from the vars `min_date` and `max_date`; none where
  either is missing. A window that cuts a partition of the model in two is refused: half a month would otherwise
  replace the month.
#}
{% macro partition_window() -%}
    {%- if var('min_date', none) is none or var('max_date', none) is none -%}
        {{ return(none) }}
    {%- endif -%}
    {%- set partitions = model.config.get('meta', {}).get('dagster', {}).get('partitions', {}) -%}
    {%- set ends = [] -%}
    {%- for name in ['min_date', 'max_date'] -%}
        {%- set end = modules.datetime.datetime.fromisoformat(var(name) | string) -%}
        {%- if end.tzinfo -%}
            {%- set end = end.astimezone(modules.pytz.utc).replace(tzinfo=none) -%}
        {%- endif -%}
        {%- set whole = {
            'hour': end.replace(minute=0, second=0, microsecond=0),
            'day': end.replace(hour=0, minute=0, second=0, microsecond=0),
            'month': end.replace(day=1, hour=0, minute=0, second=0, microsecond=0),
        } -%}
        {%- if partitions.get('timezone', 'UTC') == 'UTC' and end != whole.get(partitions.get('grain'), end) -%}
            {{ exceptions.raise_compiler_error(
                name ~ " " ~ end ~ " is inside a " ~ partitions['grain'] ~ " partition of " ~ model.name
                ~ ": pass a window of whole partitions, here " ~ whole[partitions['grain']] ~ " or the next"
            ) }}
        {%- endif -%}
        {%- do ends.append(end) -%}
    {%- endfor -%}
    {%- if ends[0] >= ends[1] -%}
        {{ exceptions.raise_compiler_error(
            "the window from " ~ ends[0] ~ " to " ~ ends[1] ~ " is empty: max_date must be after min_date (it is exclusive)"
        ) }}
    {%- endif -%}
    {{ return(ends) }}
{%- endmacro %}
