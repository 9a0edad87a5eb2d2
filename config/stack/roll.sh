#!/bin/sh
# Puts new containers in the place of the old ones, one at a time, with nobody refused: after `docker compose build`, a
# change of a setting or of config/operations.toml. Name services, or take all that may be more than one.
#
# The new one is well before the old one is asked to stop. The schema comes first: migrations only add, so the old
# containers go on with the new one.
set -eu

docker compose run --rm migrate

for service in ${*:-web scheduler worker-io worker-cpu worker-webhooks}; do
  old=$(docker compose ps --quiet "$service")
  number=$(echo "$old" | wc -l)
  for container in $old; do
    docker compose up --detach --no-build --no-deps --no-recreate --wait --scale "$service=$((number + 1))" "$service"
    docker stop "$container" >/dev/null
    docker rm "$container" >/dev/null
  done
done
