#!/bin/sh
# Puts new containers in the place of the old ones: after `docker compose build`, a change of a setting or of
# config/operations.toml. Name services, or take all that have our image.
#
# Where there may be several nobody is refused: the new one is well before the old one is asked to stop. Where a port is
# published there can be but one, which is made anew only when something of it has changed. The schema comes first:
# migrations only add, so the old containers go on with the new one. In the end there are as many as the settings say
# (STACK_WEB and its like).
#
# When a new container does not get well its last lines are shown, it goes, and the old ones stay: mend it, roll again.
# What an interrupted roll left behind goes first.
set -eu

up() {
  docker compose up --detach --no-build --no-deps --wait "$@"
}

is_well() {
  [ "$(docker inspect --format '{{.State.Status}} {{.State.Health.Status}}' "$1")" = "running healthy" ]
}

# remove_unwell SERVICE: its containers that are not well, or not yet
remove_unwell() {
  for container in $(docker compose ps --all --quiet "$1"); do
    if ! is_well "$container"; then
      echo "$1: a container that is not well goes; its last lines:" >&2
      docker logs --tail 20 "$container" >&2
      docker stop "$container" >/dev/null
      docker rm "$container" >/dev/null
    fi
  done
}

# replace SERVICE: one container after the other
replace() {
  remove_unwell "$1"
  old=$(docker compose ps --quiet "$1")
  number=$(echo "$old" | grep -c .) || true
  for container in $old; do
    if ! up --no-recreate --scale "$1=$((number + 1))" "$1"; then
      remove_unwell "$1"
      echo "$1: a new container did not get well, and the others stay as they are" >&2
      exit 1
    fi
    docker stop "$container" >/dev/null
    docker rm "$container" >/dev/null
  done
  up --no-recreate "$1"
}

# renew SERVICE: the one container, if it is there and something of it has changed; who is connected has 5 s
renew() {
  if [ -n "$(docker compose ps --all --quiet "$1" 2>/dev/null)" ]; then
    up --timeout 5 "$1"
  fi
}

docker compose run --rm migrate

# Those of an override file, too: a worker of a queue of one's own.
workers=$(docker compose config --services | grep '^worker-' | sort)
for service in ${*:-web scheduler $workers flower sample proxy}; do
  case $service in
    flower | sample | proxy) renew "$service" ;;
    *) replace "$service" ;;
  esac
done
