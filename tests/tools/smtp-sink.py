#!/usr/bin/python3
"""smtp-sink.py DIRECTORY [PORT] - a real SMTP server for the tests: STARTTLS required, AUTH required, mail into DIRECTORY.

Prints its port on the first line. While DIRECTORY/down exists it answers every mail with a temporary failure. Nobody is
called gone@, and while DIRECTORY/full exists it takes nothing for full@ for now. Where DIRECTORY/ascii exists it knows no SMTPUTF8.
Reads the certificate from DIRECTORY/cert.pem and DIRECTORY/key.pem; the account is "alerts" with "right password", or by
XOAUTH2 with the token in DIRECTORY/token.
"""
import base64, socket, ssl, sys, time, uuid
from pathlib import Path

from aiosmtpd.controller import Controller
from aiosmtpd.smtp import AuthResult, LoginPassword

directory = Path(sys.argv[1])
wanted = int(sys.argv[2]) if len(sys.argv) > 2 else 0


class Handler:
    async def auth_XOAUTH2(self, server, args):
        token = (directory / "token").read_text() if (directory / "token").exists() else ""
        words = base64.b64decode(args[1]).decode()
        good = token != "" and words == f"user=alerts\x01auth=Bearer {token}\x01\x01"
        return AuthResult(success=good, handled=False)

    async def handle_RCPT(self, server, session, envelope, address, options):
        if address.startswith("gone@"):
            return "550 5.1.1 nobody of this name"
        if address.startswith("full@") and (directory / "full").exists():
            return "452 4.2.2 this mailbox is full"
        envelope.rcpt_tos.append(address)
        return "250 2.1.5 known"

    async def handle_DATA(self, server, session, envelope):
        if (directory / "down").exists():
            return "451 4.3.0 the tests say that this server is out of order"
        name = f"{time.time_ns()}-{uuid.uuid4().hex[:6]}"
        (directory / f"{name}.to").write_text("\n".join(envelope.rcpt_tos))
        (directory / f"{name}.tmp").write_bytes(envelope.content)
        (directory / f"{name}.tmp").rename(directory / f"{name}.eml")
        return "250 2.0.0 taken"


def authenticate(server, session, envelope, mechanism, data):
    good = isinstance(data, LoginPassword) and (data.login, data.password) == (b"alerts", b"right password")
    return AuthResult(success=good, handled=good)


context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
context.load_cert_chain(directory / "cert.pem", directory / "key.pem")
with socket.socket() as probe:
    probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    probe.bind(("127.0.0.1", wanted))
    port = probe.getsockname()[1]
controller = Controller(
    Handler(), hostname="127.0.0.1", port=port, tls_context=context, require_starttls=True,
    authenticator=authenticate, auth_required=True, auth_require_tls=True,
    enable_SMTPUTF8=not (directory / "ascii").exists(),
)
controller.start()
print(port, flush=True)
while True:
    time.sleep(3600)
