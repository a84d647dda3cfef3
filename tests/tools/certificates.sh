#!/bin/bash
# certificates.sh DIRECTORY [odd] - for tests: an authority (ca.pem), a server certificate for localhost (cert.pem, key.pem), and the
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
[ "${2:-}" = odd ] || exit 0

# With "odd": authorities that may not sign, or not so, and what they signed all the same: NAME.pem and NAME.key.
authority() { # NAME EXTENSIONS
    openssl req -x509 -newkey rsa:2048 -nodes -days 2 -subj "/CN=$1" -keyout "$1.key" -out "$1.pem" -config \
        <(printf '[req]\ndistinguished_name=d\nx509_extensions=e\n[d]\n[e]\nsubjectKeyIdentifier=hash\n%b\n' "$2") 2>/dev/null
    chmod 600 "$1.key"
}
signed() { # NAME AUTHORITY SUBJECT EXTENSIONS [OPTION…]
    local name=$1 authority=$2 subject=$3 extensions=$4
    shift 4
    openssl req -newkey rsa:2048 -nodes -subj "/CN=$subject" -keyout "$name.key" -out request.pem 2>/dev/null
    local file=()
    [ -z "$extensions" ] || { printf '%b\n' "$extensions" >extensions; file=(-extfile extensions); }
    openssl x509 -req -in request.pem -CA "$authority.pem" -CAkey "$authority.key" -CAcreateserial -days 2 -out "$name.pem" "${file[@]}" \
        "$@" 2>/dev/null
    chmod 600 "$name.key"
}
ca='basicConstraints=critical,CA:TRUE\nkeyUsage=critical,keyCertSign'
server='basicConstraints=CA:FALSE\nsubjectAltName=DNS:localhost'
authority no-authority 'basicConstraints=critical,CA:FALSE\nkeyUsage=critical,digitalSignature'
authority no-signing 'basicConstraints=critical,CA:TRUE\nkeyUsage=critical,digitalSignature'
authority for-clients "$ca\nextendedKeyUsage=clientAuth"
authority short 'basicConstraints=critical,CA:TRUE,pathlen:0\nkeyUsage=critical,keyCertSign'
for name in no-authority no-signing for-clients short; do
    signed "by-$name" "$name" localhost "$server"
    signed "plain-by-$name" "$name" localhost ''
done
signed middle ca middle "$ca"
signed by-middle middle localhost "$server"
signed middle-no-signing ca middle2 'basicConstraints=critical,CA:TRUE\nkeyUsage=critical,digitalSignature'
signed by-middle-no-signing middle-no-signing localhost "$server"
signed middle-no-authority ca middle3 'basicConstraints=critical,CA:FALSE'
signed by-middle-no-authority middle-no-authority localhost "$server"
signed middle-short short middle4 "$ca"
signed by-middle-short middle-short localhost "$server"
for name in middle middle-no-signing middle-no-authority middle-short; do cat "$name.pem" >>"by-$name.pem"; done
authority own-for-clients "$ca\nextendedKeyUsage=clientAuth\nsubjectAltName=DNS:localhost"
signed leaf-for-clients ca localhost "$server\nextendedKeyUsage=clientAuth"
signed leaf-for-lists ca localhost "$server\nkeyUsage=critical,cRLSign"
signed leaf-authority ca localhost "basicConstraints=CA:TRUE\nsubjectAltName=DNS:localhost"
signed elsewhere ca elsewhere 'basicConstraints=CA:FALSE\nsubjectAltName=DNS:elsewhere'
signed plain-elsewhere ca elsewhere ''
signed two-names ca 'elsewhere/CN=localhost' 'basicConstraints=CA:FALSE'
signed address-alone ca localhost 'basicConstraints=CA:FALSE\nsubjectAltName=IP:10.0.0.1'
signed mail-alone ca localhost 'basicConstraints=CA:FALSE\nsubjectAltName=email:a@b.c'
