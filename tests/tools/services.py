#!/usr/bin/python3
"""services.py DIRECTORY - what stands behind channels in the tests: Slack, PagerDuty, a webhook, a token server.

Prints its port on the first line. Every request is checked against the published schema of its service and answered as that
service answers; what was taken goes into DIRECTORY/taken.jsonl, one line a request. DIRECTORY/refuse holds what is refused
next, one line a service: "slack 429 3" answers the next message to Slack with 429 and Retry-After: 3, "slack 500 always"
answers all with 500.
"""
import base64, hashlib, hmac, html, http.server, json, re, sys, threading, time, urllib.parse
from pathlib import Path

import jsonschema

directory, tools = Path(sys.argv[1]), Path(__file__).parent
schema = lambda path: jsonschema.Draft202012Validator(json.loads(path.read_text()))
SLACK = schema(tools / "schemas/slack.json")
PAGERDUTY = schema(tools / "schemas/pagerduty.json")
WEBHOOK = schema(tools / "../../docs/webhook.schema.json")
lock = threading.Lock()


def refusal(service):
    """The refusal that waits for this service: status, and seconds of Retry-After or none."""
    path = directory / "refuse"
    lines = path.read_text().splitlines() if path.exists() else []
    for line in lines:
        name, status, after = line.split()
        if name == service:
            if after != "always":
                path.write_text("".join(f"{other}\n" for other in lines if other != line))
            return int(status), None if after == "always" else after
    return None


# What services of the examples in etc/channels take, as their pages say.
def telegram(message, headers):
    if not re.fullmatch(r"-?[0-9]+", message.get("chat_id", "")):
        yield "Bad Request: chat not found"
    plain = re.sub(r"</?(b|i|code|pre)>", "", message.get("text", ""))
    if not 1 <= len(html.unescape(plain)) <= 4096:
        yield "Bad Request: message is too long"
    if re.search(r"[<>]", plain) or message.get("parse_mode") != "HTML":
        yield "Bad Request: can't parse entities"


def discord(message, headers):
    embeds = message.get("embeds", [])
    texts = [one.get(key, "") for one in embeds for key in ("title", "description")]
    if len(message.get("content", "")) > 2000 or len(embeds) > 10 or sum(map(len, texts)) > 6000:
        yield "BASE_TYPE_BAD_LENGTH"
    if message.get("allowed_mentions") != {"parse": []}:
        yield "somebody is mentioned"
    for one in embeds:
        if len(one["title"]) > 256 or not isinstance(one["color"], int):
            yield "embed"


def ntfy(message, headers):
    if headers["Authorization"] != "Bearer secret":
        yield "unauthorized"
    if not re.fullmatch(r"[-_A-Za-z0-9]{1,64}", message.get("topic", "")) or message.get("priority") not in range(1, 6):
        yield "bad request"
    if len(message.get("message", "").encode()) > 4096:
        yield "too long"


def chat(message, headers):
    if set(message) != {"text"} or not 1 <= len(message["text"]) <= 4096:
        yield "INVALID_ARGUMENT"


def teams(message, headers):
    (attached,) = message["attachments"]
    card = attached["content"]
    if message["type"] != "message" or attached["contentType"] != "application/vnd.microsoft.card.adaptive":
        yield "no card"
    if card["type"] != "AdaptiveCard" or not all(one["type"] in ("TextBlock", "FactSet") for one in card["body"]):
        yield "no adaptive card"
    if len(json.dumps(message)) > 28 << 10:
        yield "RequestEntityTooLarge"


FORMS = {
    "/bot123:secret/sendMessage": ("telegram", telegram, 200, '{"ok":true,"result":{}}'),
    "/api/webhooks/1/secret": ("discord", discord, 204, ""),
    "/": ("ntfy", ntfy, 200, '{"id":"x"}'),
    "/v1/spaces/S/messages?key=k&token=secret": ("google-chat", chat, 200, "{}"),
    "/workflows/secret": ("teams", teams, 202, ""),
}


class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.take("alive", None, 200, "OK")

    def do_POST(self):
        body = self.rfile.read(int(self.headers["content-length"])).decode()
        with lock:
            form = FORMS.get(self.path)
            if form is not None:
                return self.form(*form, body)
            service = {"/services/T0/B0/secret": "slack", "/v2/enqueue": "pagerduty", "/hook": "webhook", "/token": "token"}.get(self.path)
            if service is None:
                return self.answer(404, "no_service")
            refused = refusal(service)
            if refused:
                return self.answer(refused[0], "not now", {"Retry-After": refused[1]} if refused[1] else {})
            getattr(self, service)(body)

    def form(self, service, faults, status, answer, body):
        message = json.loads(body)
        found = list(faults(message, self.headers))
        if found:
            return self.fault(service, found, json.dumps(found))
        self.take(service, message, status, answer)

    def slack(self, body):
        message = json.loads(body)
        if "text" not in message and "blocks" not in message:
            return self.answer(400, "no_text")
        faults = [error.message for error in SLACK.iter_errors(message)]
        if faults:
            return self.fault("slack", faults, "invalid_blocks")
        self.take("slack", message, 200, "ok")

    def pagerduty(self, body):
        event = json.loads(body)
        faults = [error.message for error in PAGERDUTY.iter_errors(event)]
        if faults:
            answer = {"status": "invalid event", "message": "Event object is invalid", "errors": faults}
            return self.fault("pagerduty", faults, json.dumps(answer))
        answer = {"status": "success", "message": "Event processed", "dedup_key": event.get("dedup_key")}
        self.take("pagerduty", event, 202, json.dumps(answer))

    def webhook(self, body):
        message = json.loads(body)
        faults = [error.message for error in WEBHOOK.iter_errors(message)]
        at = self.headers["X-Pgbosun-Timestamp"]
        expected = "sha256=" + hmac.new(b"hook key", f"{at}.{body}".encode(), hashlib.sha256).hexdigest()
        if self.headers["X-Pgbosun-Signature"] != expected:
            faults.append("the signature is wrong")
        if faults:
            return self.fault("webhook", faults, json.dumps(faults))
        self.take("webhook", message, 204, "")

    def token(self, body):
        form = {key: values[0] for key, values in urllib.parse.parse_qs(body).items()}
        refresh = directory / "refresh"
        known = refresh.read_text() if refresh.exists() else "refresh/me+1"
        expected = {"grant_type": "refresh_token", "refresh_token": known, "client_id": "client", "client_secret": "client secret"}
        if form != expected:
            return self.fault("token", [f"{form}"], json.dumps({"error": "invalid_grant", "error_description": "no"}))
        token = base64.b64encode(str(time.time_ns()).encode()).decode()
        (directory / "token").write_text(token)
        answer = {"access_token": token, "expires_in": 3600, "token_type": "Bearer"}
        # As some do: each token comes with the refresh token for the next, and the one before is good no more.
        if (directory / "rotate").exists():
            answer["refresh_token"] = f"refresh/{time.time_ns()}"
            refresh.write_text(answer["refresh_token"])
        self.take("token", {}, 200, json.dumps(answer))

    def take(self, service, message, status, text):
        with (directory / "taken.jsonl").open("a") as taken:
            taken.write(json.dumps({"service": service, "at": time.time(), "message": message}) + "\n")
        self.answer(status, text)

    def fault(self, service, faults, text):
        with (directory / "faults").open("a") as found:
            found.write(f"{service}: {faults}\n")
        self.answer(400, text)

    def answer(self, status, text, headers={}):
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("content-length", str(len(text)))
        self.end_headers()
        self.wfile.write(text.encode())

    def log_message(self, *_):
        pass


server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
print(server.server_port, flush=True)
server.serve_forever()
