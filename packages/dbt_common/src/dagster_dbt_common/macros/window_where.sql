{#
  `where: __window__` in the config of a generic test: the test reads the run's window only, by the model's
  `event_time`, and everything where the run has no window. Not for `unique`, which must see the other partitions.

  dbt's own hook for placeholders in `where`:
  https://docs.getdbt.com/reference/resource-configs/where#override-the-default-get_where_subquery
#}
{% macro default__get_where_subquery(relation) -%}
    {%- set where = config.get('where', '') -%}
    {%- if not where -%}
        {{ return(relation) }}
    {%- endif -%}
    {%- if execute and '__window__' in where -%}
        {%- set column = graph.nodes[model.attached_node].config.event_time -%}
        {%- if not column -%}
            {{ exceptions.raise_compiler_error(
                "`where: __window__` of " ~ model.name ~ " needs a model with the config `event_time`"
            ) }}
        {%- endif -%}
        {%- set where = where | replace('__window__', in_window_or_all(column)) -%}
    {%- endif -%}
    {{ return('(select * from ' ~ relation ~ ' where ' ~ where ~ ') dbt_subquery') }}
{%- endmacro %}
