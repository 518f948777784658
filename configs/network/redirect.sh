#!/bin/sh
# Sets the rules of redirect.nft in this network namespace: AGENT_PORT=5060 SIDECAR_PORT=15060 PROTOCOLS=udp redirect.sh, with the defaults of
# the last two (or PROTOCOLS="udp tcp"). Run again, it replaces them.
set -eu
folder=$(dirname "$0")
for port in "${AGENT_PORT:?set AGENT_PORT to the port on which the agent listens}" "${SIDECAR_PORT:=15060}"; do
  case $port in
    *[!0-9]* | '') echo "trunkside-redirect: '$port' is no port" >&2; exit 2 ;;
  esac
done
protocols=
for protocol in ${PROTOCOLS:=udp}; do
  case $protocol in
    udp | tcp) protocols="$protocols${protocols:+, }$protocol" ;;
    *) echo "trunkside-redirect: '$protocol' is neither udp nor tcp" >&2; exit 2 ;;
  esac
done
sed -e "s/PROTOCOLS/$protocols/g" -e "s/AGENT_PORT/$AGENT_PORT/g" -e "s/SIDECAR_PORT/$SIDECAR_PORT/g" "$folder/redirect.nft" | grep -v '^#' | nft -f -
echo "trunkside-redirect: $PROTOCOLS $AGENT_PORT from outside goes to $SIDECAR_PORT"
