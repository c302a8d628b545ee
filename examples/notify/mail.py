"""Receives Taskgrant's signed messages about approvals and sends each as one e-mail. Python's standard library alone.

    WEBHOOK_SECRET_FILE=hook-secret MAIL_FROM=taskgrant@acme.example MAIL_TO=leads@acme.example SMTP_HOST=mail.internal \
        python3 mail.py 127.0.0.1:8099

With SMTP_HOST=- the e-mail is printed instead. What is not signed, too old or too long is refused.
"""

import base64
import hashlib
import hmac
import json
import os
import smtplib
import sys
import time
from email.message import EmailMessage
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

LONGEST = 256 * 1024
OLDEST = 300


def secret():
    with open(os.environ["WEBHOOK_SECRET_FILE"], encoding="utf-8") as file:
        text = file.read().strip()
    return base64.b64decode(text[6:]) if text.startswith("whsec_") else text.encode()


def is_signed(headers, body, key, now):
    name, at = headers.get("webhook-id", ""), headers.get("webhook-timestamp", "")
    if not at.isdigit() or abs(now - int(at)) > OLDEST:
        return False
    signature = hmac.new(key, f"{name}.{at}.".encode() + body, hashlib.sha256).digest()
    expected = "v1," + base64.b64encode(signature).decode()
    return any(hmac.compare_digest(expected, sent) for sent in headers.get("webhook-signature", "").split())


def mail(asked):
    message = EmailMessage()
    message["From"], message["To"] = os.environ["MAIL_FROM"], os.environ["MAIL_TO"]
    message["Subject"] = f"Approval needed: {asked['task_type']['name']} by {asked['client_id']}"
    where = asked["link"] or f"taskgrant approvals show {asked['approval_id']}"
    why = "".join(f"Why: {reason['message']}\n" for reason in asked["reasons"])
    message.set_content(
        f"{asked['client_id']} asks on behalf of {asked['principal']['sub']} for: {asked['scope']}\n{why}"
        f"Until {asked['expires_at']}: {where}\n", cte="8bit")
    return message


class Receiver(BaseHTTPRequestHandler):
    timeout = 10  # seconds that a silent connection may take; others are served meanwhile

    def do_POST(self):
        length = int(self.headers.get("content-length") or 0)
        body = self.rfile.read(length) if 0 < length <= LONGEST else b""
        if not is_signed(self.headers, body, secret(), time.time()):
            return self.answer(401)
        message = mail(json.loads(body))
        if os.environ["SMTP_HOST"] == "-":
            print(message, flush=True)
        else:
            with smtplib.SMTP(os.environ["SMTP_HOST"], timeout=10) as server:
                server.send_message(message)
        return self.answer(204)

    def answer(self, status):
        self.send_response(status)
        self.send_header("content-length", "0")
        self.end_headers()

    def log_message(self, *_):
        pass


if __name__ == "__main__":
    host, port = sys.argv[1].rsplit(":", 1)
    ThreadingHTTPServer((host, int(port)), Receiver).serve_forever()
