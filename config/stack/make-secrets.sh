#!/bin/sh
# Makes the passwords of the compose stack, each once: a second run changes nothing. In secrets/, or where STACK_SECRETS
# says, as docker-compose.yml does.
#
# The folder is its owner's alone. The files in it can be read by everyone who gets that far: in a container that is the
# unprivileged user that the process runs as.
set -eu

folder=${STACK_SECRETS:-secrets}
umask 077
mkdir -p "$folder"
chmod 700 "$folder"

password() {
  od -An -N 24 -t x1 /dev/urandom | tr -d ' \n'
}

# keep NAME CONTENT
keep() {
  if [ ! -s "$folder/$1" ]; then
    printf '%s\n' "$2" >"$folder/$1.new"
    chmod 444 "$folder/$1.new"
    mv "$folder/$1.new" "$folder/$1"
    echo "made $folder/$1"
  fi
}

keep postgres_password "$(password)"
keep database_url "postgresql+psycopg://tidegate:$(cat "$folder/postgres_password")@postgres/tidegate"

redis_password=$(password)
keep redis.conf "requirepass $redis_password"
keep broker_url "redis://:$(sed -n 's/^requirepass //p' "$folder/redis.conf")@redis/0"

keep flower_auth "operator:$(password)"

# Losing it ends the links to events that were told; to change it, put a new one before it, with a comma between.
keep signing_key "$(head -c 32 /dev/urandom | base64)"

# Losing it costs nothing: access tokens that it sealed are fetched anew.
keep sealing_key "$(head -c 32 /dev/urandom | base64)"

# Losing it ends every webhook secret that was made from it.
keep webhook_key "$(head -c 32 /dev/urandom | base64)"
