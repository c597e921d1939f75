{#
  The window of the partitions that this run builds, as a predicate: half-open, `>= start and < end`.

  It applies on the first run of a model too: under `is_incremental()` alone, the first partition of a missing table
  would load all of history while Dagster records one partition.

  column     a timestamp in UTC, a timestamp with a time zone, or a date in the zone of the model's partitions
  data_type  what both ends are cast to, unless a zone is another than UTC, where the column's own type decides; `date`
             gives the days that the window touches, so that a reader of files by day can prune: an hour's window then
             is its whole day, which the timestamp's own filter narrows
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
    {%- set zone = partition_zone() -%}
    {%- set last_moment = end - modules.datetime.timedelta(microseconds=1) -%}
    {%- set first_day = modules.pytz.utc.localize(start).astimezone(zone).date() -%}
    {%- set end_day = modules.pytz.utc.localize(last_moment).astimezone(zone).date() + modules.datetime.timedelta(days=1) -%}
    {%- set is_utc = zone.zone == 'UTC' and session_zone() == 'UTC' -%}
    {%- if data_type == 'date' and is_utc -%}
        ({{ column }} >= cast('{{ first_day }}' as date) and {{ column }} < cast('{{ end_day }}' as date))
    {%- elif data_type == 'date' -%}
        {{ in_window_of_any_type(column, midnight_of(first_day, zone), midnight_of(end_day, zone), first_day, end_day) }}
    {%- elif data_type and is_utc -%}
        ({{ column }} >= cast('{{ start }}' as {{ data_type }}) and {{ column }} < cast('{{ end }}' as {{ data_type }}))
    {%- else -%}
        {#- Of hours the wider condition comes first, so that the rows of a date reach what refuses it. -#}
        {%- if is_utc and window_is_of_days() -%}
            {%- set type = dbt.type_timestamp() -%}
            ({{ column }} >= cast('{{ start }}' as {{ type }}) and {{ column }} < cast('{{ end }}' as {{ type }}))
        {%- else -%}
            {{ in_window_of_any_type(column, start, end, first_day, end_day) }}
        {%- endif -%}
        {%- if not window_is_of_days() %} {{ and_is_no_date(column) }}{% endif -%}
    {%- endif -%}
{%- endmacro %}


{#
  Fails the query whose column is a date where a window does not begin at midnight: a date has no hours, so each hour of
  a day would have all of its rows, or none. The type is known to the warehouse alone; the model's table may be missing.
#}
{% macro and_is_no_date(column) -%}
    {{ return(adapter.dispatch('and_is_no_date')(column)) }}
{%- endmacro %}

{% macro default__and_is_no_date(column) -%}
{%- endmacro %}

{% macro duckdb__and_is_no_date(column) -%}
    and case when typeof({{ column }}) = 'DATE' then {{ fails_with(says_no_date(column), column) }} else true end
{%- endmacro %}

{% macro postgres__and_is_no_date(column) -%}
    and case when pg_typeof({{ column }})::text = 'date' then {{ fails_with(says_no_date(column), column) }} else true end
{%- endmacro %}

{% macro says_no_date(column) -%}
    {{ return('in_window(' ~ column ~ ') of ' ~ model.name ~ ': it is a date, and the partitions do not begin at midnight: take a timestamp; ') }}
{%- endmacro %}


{#
  For tests: the run's window where it has one, so that a partition's run does not test all of history again; without
  a window, as in `dbt test` by hand, everything.
#}
{% macro in_window_or_all(column, data_type=none) -%}
    {{ return(in_window(column, data_type) if execute and partition_window() else '(1 = 1)') }}
{%- endmacro %}


{#
  The same where the session or the partitions have another zone than UTC, and the type of the column decides. Elsewhere
  a timestamp with a zone would be compared in the session's zone, and a date with an instant. The first two conditions
  are a day wider on both sides, which no zone exceeds: what they leave out, files and row groups, is not read.
#}
{% macro in_window_of_any_type(column, start, end, first_day, end_day) -%}
    {{ knows_zones() }} {{ adapter.dispatch('in_window_of_any_type')(column, start, end, first_day, end_day) }}
{%- endmacro %}

{% macro midnight_of(day, zone) -%}
    {%- set midnight = modules.datetime.datetime.combine(day, modules.datetime.time()) -%}
    {{ return(zone.localize(midnight).astimezone(modules.pytz.utc).replace(tzinfo=none)) }}
{%- endmacro %}

{% macro default__in_window_of_any_type(column, start, end, first_day, end_day) -%}
    {%- set type = dbt.type_timestamp() -%}
    ({{ column }} >= cast('{{ start }}' as {{ type }}) and {{ column }} < cast('{{ end }}' as {{ type }}))
{%- endmacro %}

{% macro duckdb__in_window_of_any_type(column, start, end, first_day, end_day) -%}
    {{ return(typed_window(column, 'typeof(' ~ column ~ ')', start, end, first_day, end_day)) }}
{%- endmacro %}

{% macro postgres__in_window_of_any_type(column, start, end, first_day, end_day) -%}
    {{ return(typed_window(column, 'upper(pg_typeof(' ~ column ~ ')::text)', start, end, first_day, end_day)) }}
{%- endmacro %}

{% macro typed_window(column, type, start, end, first_day, end_day) -%}
    {%- set day = modules.datetime.timedelta(days=1) -%}
    {%- set epoch = modules.datetime.datetime(1970, 1, 1) -%}
    ({{ column }} >= cast('{{ start - day }}' as timestamp) and {{ column }} < cast('{{ end + day }}' as timestamp)
    and case when {{ type }} = 'DATE'
        then cast({{ column }} as date) >= cast('{{ first_day }}' as date)
            and cast({{ column }} as date) < cast('{{ end_day }}' as date)
        else extract(epoch from {{ column }}) >= {{ (start - epoch).total_seconds() }}
            and extract(epoch from {{ column }}) < {{ (end - epoch).total_seconds() }}
    end)
{%- endmacro %}


{#
  The time zone of the session, in which the engine compares a timestamp with a zone; UTC where it has no such thing.
#}
{% macro session_zone() -%}
    {{ return(adapter.dispatch('session_zone')()) }}
{%- endmacro %}

{% macro default__session_zone() -%}
    {{ return('UTC') }}
{%- endmacro %}

{% macro duckdb__session_zone() -%}
    {%- set zone = run_query("select current_setting('TimeZone')").rows[0][0] -%}
    {{ return('UTC' if zone in ('UTC', 'Etc/UTC', 'GMT', 'Etc/GMT', 'Zulu', 'Etc/UCT') else zone) }}
{%- endmacro %}

{% macro postgres__session_zone() -%}
    {{ return(duckdb__session_zone()) }}
{%- endmacro %}


{#
  The time zone of the partitions: that of the run, which an ephemeral model and a test have no config for, or what the
  model's config says.
#}
{% macro partition_zone() -%}
    {%- set partitions = model.config.get('meta', {}).get('dagster', {}).get('partitions', {}) -%}
    {{ return(modules.pytz.timezone(var('window_timezone', none) or partitions.get('timezone', 'UTC'))) }}
{%- endmacro %}


{#
  Both ends of the window as datetimes in UTC without a zone, from the vars `min_date` and `max_date`; none where
  either is missing. A var without an offset is a time of the partitions' zone: the day of a model by days of
  Europe/Berlin begins at 22:00 or 23:00 in UTC. A window that cuts a partition of the model in two is refused: half
  a month would otherwise replace the month.
#}
{% macro partition_window() -%}
    {%- if var('min_date', none) is none or var('max_date', none) is none -%}
        {{ return(none) }}
    {%- endif -%}
    {%- set zone = partition_zone() -%}
    {%- set grain = model.config.get('meta', {}).get('dagster', {}).get('partitions', {}).get('grain') -%}
    {%- set ends = [] -%}
    {%- for name in ['min_date', 'max_date'] -%}
        {%- set given = modules.datetime.datetime.fromisoformat(var(name) | string) -%}
        {%- set local = given.astimezone(zone) if given.tzinfo else zone.localize(given) -%}
        {%- set clock = local.replace(tzinfo=none) -%}
        {%- set midnight = clock.replace(hour=0, minute=0, second=0, microsecond=0) -%}
        {%- set whole = {
            'hour': clock.replace(minute=0, second=0, microsecond=0),
            'day': midnight,
            'week': midnight - modules.datetime.timedelta(days=midnight.weekday()),
            'month': midnight.replace(day=1),
            'year': midnight.replace(month=1, day=1),
        } -%}
        {%- if clock != whole.get(grain, clock) -%}
            {{ exceptions.raise_compiler_error(
                name ~ " " ~ clock ~ " is inside a " ~ grain ~ " partition of " ~ model.name
                ~ ": pass a window of whole partitions, here " ~ whole[grain] ~ " or the next"
            ) }}
        {%- endif -%}
        {%- do ends.append(local.astimezone(modules.pytz.utc).replace(tzinfo=none)) -%}
    {%- endfor -%}
    {%- if ends[0] >= ends[1] -%}
        {{ exceptions.raise_compiler_error(
            "the window from " ~ ends[0] ~ " to " ~ ends[1] ~ " is empty: max_date must be after min_date (it is exclusive)"
        ) }}
    {%- endif -%}
    {{ return(ends) }}
{%- endmacro %}


{#
  Whether both ends of the window are midnights of the partitions' zone.
#}
{% macro window_is_of_days() -%}
    {%- set midnights = [] -%}
    {%- for instant in partition_window() or [] -%}
        {%- set local = modules.pytz.utc.localize(instant).astimezone(partition_zone()) -%}
        {%- do midnights.append((local.hour, local.minute, local.second) == (0, 0, 0)) -%}
    {%- endfor -%}
    {{ return(midnights == [true, true]) }}
{%- endmacro %}
