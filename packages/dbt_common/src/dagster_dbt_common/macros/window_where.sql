{#
  Two placeholders for `where` in the config of a generic test. The test then reads less than the whole model in the run
  of a window, and everything where the run has none:

  __window__           the rows of the run's window, by the model's `event_time`; not for `unique`, which would miss a key
                       that another partition has
  __keys_in_window__   for `unique`, and for tests of several columns together: all rows that have a key of the window; a
                       key with a null in it is none

  dbt's own hook for placeholders in `where`:
  https://docs.getdbt.com/reference/resource-configs/where#override-the-default-get_where_subquery
#}
{% macro default__get_where_subquery(relation) -%}
    {%- set where = config.get('where', '') -%}
    {%- if not where -%}
        {{ return(relation) }}
    {%- endif -%}
    {%- if execute and ('__window__' in where or '__keys_in_window__' in where) -%}
        {%- set column = graph.nodes[model.attached_node].config.event_time -%}
        {%- if not column -%}
            {{ exceptions.raise_compiler_error(
                "`where: " ~ where ~ "` of " ~ model.name ~ " needs a model with the config `event_time`"
            ) }}
        {%- endif -%}
        {%- set window = in_window_or_all(column) -%}
        {%- set where = where | replace('__window__', window) -%}
        {%- if '__keys_in_window__' in where -%}
            {%- set keys = keys_of_test() | join(', ') -%}
            {%- set of_window = '(' ~ keys ~ ') in (select ' ~ keys ~ ' from ' ~ relation ~ ' where ' ~ window ~ ')' -%}
            {%- set where = where | replace('__keys_in_window__', of_window if partition_window() else window) -%}
        {%- endif -%}
    {%- endif -%}
    {{ return('(select * from ' ~ relation ~ ' where ' ~ where ~ ') dbt_subquery') }}
{%- endmacro %}


{#
  The columns that a test of uniqueness is of: the one that it stands below, or those of the argument that the common
  tests of several columns have.
#}
{% macro keys_of_test() -%}
    {%- set given = model.test_metadata.kwargs -%}
    {%- for name in ['column_name', 'combination_of_columns', 'column_list', 'columns'] -%}
        {%- if given.get(name) -%}
            {{ return([given[name]] if given[name] is string else given[name]) }}
        {%- endif -%}
    {%- endfor -%}
    {{ exceptions.raise_compiler_error(
        "`where: __keys_in_window__` of " ~ model.name ~ ": it stands below no column and has no argument `columns`"
    ) }}
{%- endmacro %}
