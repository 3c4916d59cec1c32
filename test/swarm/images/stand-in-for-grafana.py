"""Answers 200 over HTTPS on port 3000 with the monitoring certificate: health and one metric."""

import http.server
import ssl


class Answer(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        body = b"grafana_stand_in 1\n"
        self.send_response(200)
        self.send_header("Content-Type", "text/plain; version=0.0.4")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    do_HEAD = do_GET

    def log_message(self, *_):
        pass


server = http.server.ThreadingHTTPServer(("", 3000), Answer)
context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
context.load_cert_chain("/run/secrets/monitoring.crt", "/run/secrets/monitoring.key")
server.socket = context.wrap_socket(server.socket, server_side=True)
server.serve_forever()
