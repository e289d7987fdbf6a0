"""A shop's receiver as its author would write it: events of a real server over https, verified by the `standardwebhooks` package.

SHOWCART_BIN names the server. Everything happens on loopback, and the process ends with an error when anything is not as it
should be.
"""

import http.server
import json
import os
import queue
import ssl
import subprocess
import tempfile
import threading
import urllib.request
import uuid

import trustme
from standardwebhooks import Webhook, WebhookVerificationError

BINARY = os.environ["SHOWCART_BIN"]
PATIENCE_S = 20


class Receiver(http.server.BaseHTTPRequestHandler):
    received = queue.Queue()

    def do_POST(self):
        body = self.rfile.read(int(self.headers["content-length"]))
        Receiver.received.put((body, dict(self.headers.items())))
        self.send_response(204)
        self.end_headers()

    def log_message(self, *_):
        pass


def next_event(*secrets):
    """The next event, if it is signed with each of the secrets, and with no other one."""
    body, headers = Receiver.received.get(timeout=PATIENCE_S)
    headers = {name.lower(): value for name, value in headers.items()}
    for secret in secrets:
        event = Webhook(secret).verify(body, headers)
    assert event["id"] == headers["webhook-id"], headers
    for wrong in ((body + b" ", headers), (body, {**headers, "webhook-id": "another"})):
        try:
            Webhook(secrets[0]).verify(*wrong)
        except WebhookVerificationError:
            continue
        raise AssertionError("what was changed on its way is taken for ours")
    assert len(headers["webhook-signature"].split(" ")) == len(secrets), headers
    return event


def main():
    authority = trustme.CA()
    receiver = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Receiver)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("localhost").configure_cert(context)
    receiver.socket = context.wrap_socket(receiver.socket, server_side=True)
    threading.Thread(target=receiver.serve_forever, daemon=True).start()
    with tempfile.TemporaryDirectory(prefix="showcart-python-") as folder:
        roots = os.path.join(folder, "roots.pem")
        authority.cert_pem.write_to_path(roots)
        settings = {"LISTEN": "127.0.0.1:0", "DATA_DIR": folder, "WEBHOOK_PRIVATE_NETWORKS": "true", "SSL_CERT_FILE": roots}
        token = [BINARY, "token", "--role", "service", "--subject", "office"]
        token = subprocess.run(token, env=settings, check=True, capture_output=True, text=True).stdout.strip()
        server = subprocess.Popen([BINARY, "serve"], env=settings, stdout=subprocess.PIPE, text=True)
        try:
            said = server.stdout.readline()
            address = said.removeprefix("showcart is listening on ").strip()
            assert address.startswith("http://127.0.0.1:"), said

            def post(path, body):
                headers = {
                    "authorization": f"Bearer {token}",
                    "content-type": "application/json",
                    "idempotency-key": str(uuid.uuid4()),
                }
                request = urllib.request.Request(address + path, json.dumps(body).encode(), headers, method="POST")
                with urllib.request.urlopen(request, timeout=PATIENCE_S) as answer:
                    return json.load(answer)

            # The certificate is for this name, and for no address.
            for host, state in (("127.0.0.1", "failed"), ("localhost", "delivered")):
                endpoint = post("/v1/webhooks", {"url": f"https://{host}:{receiver.server_port}/hooks"})
                tested = post(f"/v1/webhooks/{endpoint['webhook_id']}/test", {})
                assert tested["state"] == state, tested
                if state == "failed":
                    assert "certificate" in tested["attempts"][0]["error"], tested
            path, first = f"/v1/webhooks/{endpoint['webhook_id']}", endpoint["secret"]
            assert next_event(first)["type"] == "webhook.test"
            # What is not ASCII is signed as it travels.
            show = post("/v1/shows", {"title": "Herbst – Ärmel ✂", "currency": "EUR"})["show_id"]
            post(f"/v1/shows/{show}/start", {})
            assert next_event(first)["type"] == "show.started"
            second = post(f"{path}/rotate", {})["secret"]
            post(f"/v1/shows/{show}/end", {})
            ended = next_event(first, second)
            assert (ended["type"], ended["data"]["show_id"]) == ("show.ended", show), ended
        finally:
            server.kill()
            server.wait()
    print("3 events verified by standardwebhooks")


main()
