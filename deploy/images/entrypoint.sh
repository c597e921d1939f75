#!/bin/sh
# What a container runs: reads secrets from files, then becomes the command.
#
# NAME_FILE=<a file below HEADRACE_SECRETS> sets NAME to the file's content: Dagster's `env:` and dbt's `env_var` read
# variables only. `serve` and `healthy` are the image's own server and the question whether it serves.
set -eu

secrets=${HEADRACE_SECRETS:-/run/secrets}
for name in $(env | sed -n 's/^\([A-Z][A-Z0-9_]*\)_FILE=.*/\1/p'); do
    file=$(printenv "${name}_FILE")
    case $file in
        "$secrets"/*)
            [ -r "$file" ] || { echo "${name}_FILE: $file cannot be read: mount the secret" >&2; exit 2; }
            export "$name=$(cat "$file")"
            ;;
    esac
done

# A location with a dbt project of its own looks for it by a variable of its own.
if [ -n "${HEADRACE_LOCATION:-}" ] && [ -n "${HEADRACE_DBT_PROJECT:-}" ]; then
    export "HEADRACE_$(echo "$HEADRACE_LOCATION" | tr '[:lower:]' '[:upper:]')_DBT_PROJECT=$HEADRACE_DBT_PROJECT"
fi

port=${HEADRACE_PORT:-4000}
case ${1:-serve} in
    serve)
        if [ "$HEADRACE_LOCATION" = platform ]; then
            set -- dagster-webserver --host 0.0.0.0 --port "$port" --workspace "$DAGSTER_HOME/workspace.yaml"
        else
            set -- dagster api grpc --host 0.0.0.0 --port "$port" \
                --module-name "$HEADRACE_LOCATION.definitions" --location-name "$HEADRACE_LOCATION"
        fi
        ;;
    healthy)
        if [ "$HEADRACE_LOCATION" = platform ]; then
            set -- python -c "import urllib.request as r; r.urlopen('http://127.0.0.1:$port/server_info', timeout=5)"
        else
            set -- dagster api grpc-health-check --port "$port"
        fi
        ;;
esac
exec "$@"
