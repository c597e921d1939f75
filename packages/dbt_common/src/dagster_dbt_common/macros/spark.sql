{#
  Spark, on tables of plain files, which know no delete and no transaction: what may be replaced is a partition of the
  table as a whole. So a model that is built by windows has a column more than its SQL, `dbt_window`, which its table is
  partitioned by: the day of its `event_time`, or the hour where its windows are not of days in UTC. dbt does not see the
  column; a `select *` does.

  dbt-spark finds these macros by their names in the project first: its own know neither the strategy nor the column.
#}
{% macro spark__create_table_as(temporary, relation, compiled_code, language='sql') -%}
    {%- if temporary or language != 'sql' or not is_built_by_windows() -%}
        {{ return(dbt.spark__create_table_as(temporary, relation, rows_of_window(compiled_code, language), language)) }}
    {%- endif -%}
    {%- do refuse_own_partitions() -%}
    create table {{ relation }}
    {%- set sql = rows_of_window(compiled_code) -%}
    {%- if config.get('contract').enforced -%}
        {{ get_assert_columns_equivalent(sql) }}
        {%- set sql = get_select_subquery(sql) -%}
    {%- endif %}
    using {{ config.get('file_format') or 'parquet' }}
    {{ options_clause() }}
    {{ tblproperties_clause() }}
    partitioned by (dbt_window)
    {{ location_clause() }}
    {{ comment_clause() }}
    as
    select *, {{ dbt_window(config.get('event_time')) }} as dbt_window
    from ({{ sql }})
{%- endmacro %}


{% macro dbt_spark_validate_get_incremental_strategy(raw_strategy, file_format) -%}
    {%- if raw_strategy == 'delete_window+insert' -%}
        {{ return(raw_strategy) }}
    {%- endif -%}
    {{ return(dbt.dbt_spark_validate_get_incremental_strategy(raw_strategy, file_format)) }}
{%- endmacro %}


{% macro dbt_spark_get_incremental_sql(strategy, source, target, existing, unique_key, incremental_predicates) -%}
    {%- if not is_built_by_windows() -%}
        {{ return(dbt.dbt_spark_get_incremental_sql(
            strategy, source, target, existing, unique_key, incremental_predicates
        )) }}
    {%- endif -%}
    {{ replace_window_of_files(source, target) }}
{%- endmacro %}


{#
  Overwrites the partitions of the table that the window has rows of, after it has dropped those of which it has none any
  more. Each of both is done at once or not at all. Killed between the two, the table is as a build of the window that
  found nothing to overwrite; the next build makes up for it.

  Dynamic, also for one partition: its files come from a folder of their own, while those of a static overwrite share one
  with any other writer of the table, which loses the rows of one of them without a word.
#}
{% macro replace_window_of_files(source, target) -%}
    {%- set column = config.get('event_time') -%}
    {%- set columns = adapter.get_columns_in_relation(target) -%}
    {%- do refuse_other_columns({'target_relation': target, 'temp_relation': source}) -%}
    {%- if is_date(column, columns) and not windows_are_of_days() -%}
        {%- do refuse_date_of_hours(column) -%}
    {%- endif -%}
    {%- set first, end = ends_of_window_of_files(is_date(column, columns)) -%}
    {%- set found = [] -%}
    {%- for row in run_query('show partitions ' ~ target) -%}
        {%- set window = row[0].partition('=')[2] -%}
        {%- if first <= window < end -%}
            {%- do found.append(window) -%}
        {%- endif -%}
    {%- endfor -%}
    {%- set inside = dbt_window(column) ~ " >= '" ~ first ~ "' and " ~ dbt_window(column) ~ " < '" ~ end ~ "'" -%}
    {%- if found -%}
        {%- set rows = run_query('select distinct ' ~ dbt_window(column) ~ ' from ' ~ source ~ ' where ' ~ inside) -%}
        {%- set come = rows.columns[0].values() | list -%}
        {%- set emptied = [] -%}
        {%- for window in found if window not in come -%}
            {%- do emptied.append("partition (dbt_window = '" ~ window ~ "')") -%}
        {%- endfor -%}
        {%- if emptied -%}
            {%- do run_query('alter table ' ~ target ~ ' drop if exists ' ~ emptied | join(', ')) -%}
        {%- endif -%}
    {%- endif -%}
    {%- do run_query('set spark.sql.sources.partitionOverwriteMode = dynamic') -%}
    {%- set names = columns | map(attribute='quoted') | join(', ') -%}
    insert overwrite table {{ target }} partition (dbt_window)
    select {{ names }}, {{ dbt_window(column) }} from {{ source }}
    where {{ inside }}
{%- endmacro %}


{% macro refuse_own_partitions() -%}
    {%- if not config.get('event_time') -%}
        {{ exceptions.raise_compiler_error(
            "incremental_strategy='" ~ config.get('incremental_strategy') ~ "' of " ~ model.name
            ~ " needs the config `event_time`: the column of the window"
        ) }}
    {%- endif -%}
    {%- if config.get('partition_by') or config.get('clustered_by') -%}
        {{ exceptions.raise_compiler_error(
            "partition_by and clustered_by of " ~ model.name ~ ": take them away: on Spark its table is partitioned by "
            ~ "the windows of event_time"
        ) }}
    {%- endif -%}
{%- endmacro %}


{#
  The partition that a row is in, as a text which is in the order of time.
#}
{% macro dbt_window(column) -%}
    date_format({{ column }}, '{{ 'yyyy-MM-dd' if windows_are_of_days() else 'yyyy-MM-dd-HH' }}')
{%- endmacro %}


{#
  Whether the model's windows are days in UTC, or of several; the others are of hours.
#}
{% macro windows_are_of_days() -%}
    {%- if config.get('incremental_strategy') == 'microbatch' -%}
        {{ return(config.get('batch_size') != 'hour') }}
    {%- endif -%}
    {%- set partitions = model.config.get('meta', {}).get('dagster', {}).get('partitions', {}) -%}
    {{ return(
        partitions.get('timezone', 'UTC') == 'UTC' and partitions.get('grain', 'day') in ('day', 'week', 'month', 'year')
    ) }}
{%- endmacro %}


{#
  First partition of the window, and the one behind its last.
#}
{% macro ends_of_window_of_files(is_of_dates) -%}
    {%- if config.get('incremental_strategy') == 'microbatch' -%}
        {%- set ends = [] -%}
        {%- for end in [model.batch.event_time_start, model.batch.event_time_end] -%}
            {%- do ends.append(end.astimezone(modules.pytz.utc).replace(tzinfo=none)) -%}
        {%- endfor -%}
    {%- else -%}
        {%- set ends = partition_window() -%}
        {%- if not ends -%}
            {#- Says what is missing. -#}
            {{ in_window(config.get('event_time')) }}
        {%- endif -%}
    {%- endif -%}
    {%- do refuse_session_zone() -%}
    {%- set format = '%Y-%m-%d' if windows_are_of_days() else '%Y-%m-%d-%H' -%}
    {%- set names = [] -%}
    {%- for end in ends -%}
        {%- set name = end.strftime(format) -%}
        {%- if modules.datetime.datetime.strptime(name, format) != end -%}
            {{ exceptions.raise_compiler_error(
                "the window of " ~ model.name ~ " begins or ends at " ~ end ~ " UTC, inside an hour: on Spark windows are "
                ~ "of whole hours"
            ) }}
        {%- endif -%}
        {%- do names.append(name) -%}
    {%- endfor -%}
    {{ return(names) }}
{%- endmacro %}


{#- Without the column of the windows: it is none of the model's. -#}
{% macro spark__get_columns_in_relation_raw(relation) -%}
    {%- set rows = [] -%}
    {%- for row in dbt.spark__get_columns_in_relation_raw(relation) if row['col_name'] != 'dbt_window' -%}
        {%- do rows.append(row) -%}
    {%- endfor -%}
    {{ return(rows) }}
{%- endmacro %}


{% macro spark__session_zone() -%}
    {%- set zone = run_query('select current_timezone()').rows[0][0] -%}
    {{ return('UTC' if zone in ('UTC', 'Etc/UTC', 'GMT', 'Etc/GMT', 'Zulu', 'Z') else zone) }}
{%- endmacro %}


{% macro spark__and_is_no_date(column) -%}
    and case when typeof({{ column }}) = 'date' then {{ fails_with(says_no_date(column), column) }} else true end
{%- endmacro %}


{#- Contracts name types as the other engines do; a `varchar` of Spark has a length. -#}
{% macro spark__get_empty_schema_sql(columns) -%}
    {%- set named = {} -%}
    {%- for name, column in columns.items() -%}
        {%- do named.update({name: dict(column, data_type=spark_type(column.get('data_type')))}) -%}
    {%- endfor -%}
    {{ return(dbt.default__get_empty_schema_sql(named)) }}
{%- endmacro %}

{% macro spark_type(type) -%}
    {%- set types = {'varchar': 'string', 'text': 'string', 'character varying': 'string', 'double precision': 'double'} -%}
    {{ return(types.get(type | lower, type) if type else type) }}
{%- endmacro %}


{#- A timestamp is an instant, and one without a zone is taken for one of the session's, which is UTC. -#}
{% macro spark__in_window_of_any_type(column, start, end, first_day, end_day) -%}
    {%- do refuse_session_zone() -%}
    case when typeof({{ column }}) = 'date'
        then cast({{ column }} as date) >= date'{{ first_day }}' and cast({{ column }} as date) < date'{{ end_day }}'
        else cast({{ column }} as timestamp) >= timestamp'{{ start }}' and cast({{ column }} as timestamp) < timestamp'{{ end }}'
    end
{%- endmacro %}

{% macro refuse_session_zone() -%}
    {%- if session_zone() != 'UTC' -%}
        {{ exceptions.raise_compiler_error(
            "the session's time zone is " ~ session_zone() ~ ": set spark.sql.session.timeZone to UTC, "
            ~ "by server_side_parameters, set:hiveconf:spark.sql.session.timeZone, in profiles.yml"
        ) }}
    {%- endif -%}
{%- endmacro %}


{#- dbt-spark takes a table without `file_format` for one of Delta: plain files know no constraint, tests do. -#}
{% macro spark__persist_constraints(relation, model) -%}
    {%- if config.get('file_format') -%}
        {{ return(dbt.spark__persist_constraints(relation, model)) }}
    {%- endif -%}
{%- endmacro %}
