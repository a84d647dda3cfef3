#!/bin/bash
# certificates.sh DIRECTORY - an authority (ca.pem) and a server certificate for localhost (cert.pem, key.pem), for tests.
set -euo pipefail
cd "$1"
openssl req -x509 -newkey rsa:2048 -nodes -days 2 -subj "/CN=test authority" -keyout ca.key -out ca.pem 2>/dev/null
openssl req -newkey rsa:2048 -nodes -subj "/CN=localhost" -keyout key.pem -out request.pem 2>/dev/null
openssl x509 -req -in request.pem -CA ca.pem -CAkey ca.key -CAcreateserial -days 2 -out cert.pem 2>/dev/null \
    -extfile <(printf 'basicConstraints=CA:FALSE\nsubjectAltName=DNS:localhost,IP:127.0.0.1')
chmod 600 key.pem ca.key
