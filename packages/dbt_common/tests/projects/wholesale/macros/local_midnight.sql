{# The instant, in UTC, at which the local day of a time in UTC begins. #}
{% macro local_midnight(column, zone) -%}
    (date_trunc('day', ({{ column }} at time zone 'UTC') at time zone '{{ zone }}') at time zone '{{ zone }}') at time zone 'UTC'
{%- endmacro %}
