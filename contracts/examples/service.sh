#!/bin/sh
# A service in POSIX sh, with openssl and Mosquitto's clients only. An example to read and to take over.
#
#     TOKEN=FILE.jwk service.sh SERVICE CONFIG COMMAND [ARGUMENT]…
#     TOKEN=.setpoint/admin.jwk contracts/examples/service.sh fan '{"speed":3}' sh -c 'echo "version $VERSION:"; cat'
#
# writes CONFIG where the service has none yet, and runs COMMAND for each newer document, with the document on stdin and
# its VERSION in the environment; of a deleted service that is its tombstone. It begins with the document that it holds,
# be there a broker or not. It runs until it is killed, over restarts of broker and daemon.
#
# In the environment: TOKEN, the path of an HS256 token; STATE, a directory of the service's own for what it holds
# (./state-SERVICE); MQTT_HOST and MQTT_PORT (127.0.0.1, 1883); REPLY_S, after how many seconds it repeats itself (5).
#
# What it checks: the daemon's Ed25519 signature of every document, with the key that it saw first (STATE/key.pem; where
# others may publish, put it there yourself, with its id in STATE/kid), and that documents only get newer.
# What it does not: the reply to its command. It has a `jws` too, but here it ends the repetition and nothing else: who
# can forge one can make the script believe that its CONFIG was written, and cannot make it run COMMAND.
# Nor does it read JSON as strictly as a follower must: members are cut out with sed, of what the daemon has signed, in
# the order in which it writes them; a document in any other order is ignored.
set -eu
[ $# -ge 3 ] || { sed -n 's/^#  *\(TOKEN=FILE.*\)/usage: \1/p' "$0" >&2 && exit 2; }
service=$1 config=$2
shift 2
: "${TOKEN:?is the path of a token file}" "${STATE:=./state-$service}" "${REPLY_S:=5}"
: "${MQTT_HOST:=127.0.0.1}" "${MQTT_PORT:=1883}"
mkdir -p "$STATE"

# The function `sign` stands in shell.md. In a script that goes to another machine, put it here in place of this line.
eval "$(sed -n '/^sign() (/,/^)/p' "$(dirname "$0")/../shell.md")"

say() { printf 'service.sh: %s\n' "$*" >&2; }
b64() { openssl base64 -A | tr +/ -_ | tr -d =; }
unb64() ( # unb64 TEXT: decode base64url
  text=$1
  while [ $((${#text} % 4)) -ne 0 ]; do text=$text=; done
  printf %s "$text" | tr -- -_ +/ | openssl base64 -A -d
)
hear() { mosquitto_sub -h "$MQTT_HOST" -p "$MQTT_PORT" -V 5 -q 1 "$@"; }

# Whether the key in DIRECTORY made the signature. PROPERTIES are all user properties, as %P has them: one `jws` and
# nothing else. Its header is compared with the only one that is right, so that nothing in it has to be believed.
signed() ( # signed DIRECTORY TOPIC PROPERTIES PAYLOAD
  head=$(printf '{"alg":"Ed25519","kid":"%s","topic":"%s"}' "$(cat "$1/kid")" "$2" | b64)
  signature=${3#"jws:$head.."}
  [ "$signature" != "$3" ] && [ "$(unb64 "$signature" 2>&1 | b64)" = "$signature" ] || exit 1
  files=$(mktemp -d) || exit 1
  trap 'rm -r "$files"' EXIT
  unb64 "$signature" >"$files/signature"
  printf %s.%s "$head" "$(printf %s "$4" | b64)" >"$files/said"
  openssl pkeyutl -verify -rawin -pubin -inkey "$1/key.pem" -in "$files/said" \
    -sigfile "$files/signature" >/dev/null 2>&1
)

# Keep the key of the daemon that is seen first, if there is none yet.
pin() {
  topic=system/keys/config-manager
  while [ ! -e "$STATE/kid" ]; do
    new=$(mktemp -d "$STATE/new.XXXXXX")
    heard=$(hear -t $topic -C 1 -W 5 -F '%P|%p') || sleep 1
    member() { printf %s "${heard#*|}" | sed -n "s/.*\"$1\":\"\([A-Za-z0-9._-]*\)\".*/\1/p"; }
    member kid >"$new/kid"
    { printf '0*0\005\006\003+ep\003!\000' && unb64 "$(member x)"; } | # of a public key, RFC 8410: 12 bytes, then x
      openssl pkey -pubin -inform DER -out "$new/key.pem" 2>/dev/null || :
    if signed "$new" $topic "${heard%%|*}" "${heard#*|}"; then
      mv "$new/key.pem" "$STATE/key.pem" && mv "$new/kid" "$STATE/kid"
    else
      say "there is no key of a daemon yet that signs itself on $topic"
    fi
    rm -rf "$new"
  done
}

# Write CONFIG where there is none. Until there is an answer the same bytes are sent again: that is one effect at most.
write() {
  command=$(sign config/cmd/set "{\"service\":\"$service\",\"config\":$config,\"expected_version\":0}")
  jti=$(unb64 "$(printf %s "$command" | cut -d. -f2)" | sed 's/^{"jti":"\([^"]*\).*/\1/')
  principal=$(sed -n 's/.*"name": *"\([^"]*\)".*/\1/p' "$TOKEN")
  # A session that the broker keeps for a minute: a reply that comes between two of these lines is not lost.
  replies() { hear -i "service-$jti" -c -x 60 -t "config/reply/$principal/$jti" "$@"; }
  replies -E || :
  until
    printf %s "$command" | mosquitto_pub -h "$MQTT_HOST" -p "$MQTT_PORT" -q 1 -t config/cmd/set -s || sleep 1
    reply=$(replies -C 1 -W "$REPLY_S" -F %p) &&
      case $reply in *'"retryable":true'*) sleep 1 && false ;; esac # not final
  do say "no final reply to $jti yet: the same bytes again"; done
  case $reply in
  *'"command":"set","ok":true,'*) say "wrote it: $jti" ;;
  *'"error":{"code":"version_conflict",'*) say "it has a config already" ;;
  *) say "refused: $reply" ;; # `expired` too, after a long outage: then look first whether it was written
  esac
}

# Print epoch, revision and version of a document.
order() { sed -n 's/^{"service":"[^"]*","version":\([0-9]*\),"revision":\([0-9]*\),"epoch":\([0-9]*\),.*/\3 \2 \1/p'; }

use() ( # use DOCUMENT COMMAND [ARGUMENT]…
  VERSION=$(printf %s "$1" | order | cut -d' ' -f3)
  export VERSION
  document=$1
  shift
  printf '%s\n' "$document" | "$@" || say "version $VERSION: the command failed"
)

# Take a document if it is newer than the one that is held, and keep it before anything is done with it.
take() { # take DOCUMENT COMMAND [ARGUMENT]…
  read -r epoch revision _ <<EOT
$(printf %s "$1" | order)
EOT
  read -r held_epoch held_revision _ <<EOT
$(if [ -e "$STATE/held.json" ]; then order <"$STATE/held.json"; else echo 0 0; fi)
EOT
  [ -n "$epoch" ] && [ "$epoch" -ge "$held_epoch" ] || return 0
  [ "$epoch" -gt "$held_epoch" ] || [ "$revision" -gt "$held_revision" ] || return 0
  printf '%s\n' "$1" >"$STATE/held.json.new" && sync "$STATE/held.json.new"
  mv "$STATE/held.json.new" "$STATE/held.json"
  use "$@"
}

follow() { # follow COMMAND [ARGUMENT]…
  topic=config/updated/$service
  hear -t "$topic" -F '%P|%p' | while IFS='|' read -r properties payload; do
    if signed "$STATE" "$topic" "$properties" "$payload"; then
      take "$payload" "$@"
    else
      say "ignored what the daemon has not signed on $topic"
    fi
  done
}

[ ! -e "$STATE/held.json" ] || use "$(cat "$STATE/held.json")" "$@"
pin
[ -e "$STATE/held.json" ] || write & # what comes meanwhile is not held up
while :; do # mosquitto_sub connects again by itself once it was connected
  follow "$@" || :
  sleep 1
done
