{% macro nodes_of_project() -%}
    {%- if not execute -%}
        {{ return("('', '')") }}
    {%- endif -%}
    {%- set rows = [] -%}
    {%- for node in graph.nodes.values() | sort(attribute='unique_id') if node.resource_type in ('model', 'seed', 'snapshot') -%}
        {%- do rows.append("('" ~ node.unique_id ~ "', '" ~ node.config.materialized ~ "')") -%}
    {%- endfor -%}
    {%- for source in graph.sources.values() | sort(attribute='unique_id') -%}
        {%- do rows.append("('" ~ source.unique_id ~ "', 'source')") -%}
    {%- endfor -%}
    {%- for exposure in graph.exposures.values() | sort(attribute='unique_id') -%}
        {%- do rows.append("('" ~ exposure.unique_id ~ "', 'exposure')") -%}
    {%- endfor -%}
    {{ return(rows | join(', ')) }}
{%- endmacro %}
