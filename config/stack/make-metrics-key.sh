#!/bin/sh
# Makes the key that Prometheus reads /metrics with, once, into secrets/metrics_key; the stack must be running, for keys
# live in its database. It reads /metrics and /v1/scale, no more. One that an earlier version made is an operator's, which goes
# on as well and can do everything. To make another: revoke it (`docker compose run --rm web tidegate keys list`),
# remove the file, run this again.
set -eu

folder=${STACK_SECRETS:-secrets}
if [ -s "$folder/metrics_key" ]; then
  exit 0
fi
key=$(docker compose run --rm -T --no-deps web tidegate keys create prometheus --role metrics --name /metrics)
umask 077
printf '%s\n' "$key" >"$folder/metrics_key.new"
# Prometheus runs as somebody else; the folder is its owner's alone.
chmod 444 "$folder/metrics_key.new"
mv "$folder/metrics_key.new" "$folder/metrics_key"
echo "made $folder/metrics_key"
