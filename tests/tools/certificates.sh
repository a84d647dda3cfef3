#!/bin/bash
# certificates.sh DIRECTORY - for tests: an authority (ca.pem), a server certificate for localhost (cert.pem, key.pem), and the
# two that PostgreSQL's documentation makes ("Secure TCP/IP Connections with SSL"): one that is its own authority (own.pem,
# own.key), and one that names its host in its subject alone, of version 1 where OpenSSL is older than 3.2 (plain.pem, plain.key).
set -euo pipefail
cd "$1"
openssl req -x509 -newkey rsa:2048 -nodes -days 2 -subj "/CN=test authority" -keyout ca.key -out ca.pem 2>/dev/null
openssl req -newkey rsa:2048 -nodes -subj "/CN=localhost" -keyout key.pem -out request.pem 2>/dev/null
openssl x509 -req -in request.pem -CA ca.pem -CAkey ca.key -CAcreateserial -days 2 -out cert.pem 2>/dev/null \
    -extfile <(printf 'basicConstraints=CA:FALSE\nsubjectAltName=DNS:localhost,IP:127.0.0.1')
openssl x509 -req -in request.pem -CA ca.pem -CAkey ca.key -CAcreateserial -days 2 -out plain.pem 2>/dev/null
cp key.pem plain.key
openssl req -new -x509 -days 2 -nodes -subj "/CN=localhost" -keyout own.key -out own.pem 2>/dev/null
chmod 600 key.pem ca.key plain.key own.key
