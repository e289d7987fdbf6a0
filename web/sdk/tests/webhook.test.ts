/** Events of the real server at a shop's back end, verified by the `standardwebhooks` package. */

import assert from "node:assert/strict";
import { createServer, type IncomingHttpHeaders } from "node:http";
import type { AddressInfo } from "node:net";
import { after, before, test } from "node:test";
import { Webhook } from "standardwebhooks";
import { soon } from "./patience.js";
import { Host, Server } from "./server.js";

type Received = { readonly body: string; readonly headers: Record<string, string> };
type CloudEvent = { readonly id: string; readonly type: string; readonly data: { readonly show_id?: string } };
type Endpoint = { readonly webhook_id: string; readonly secret: string };

let server: Server;
let host: Host;
const received: Received[] = [];
let heard = (): void => {};

const receiver = createServer((request, response) => {
  let body = "";
  request.setEncoding("utf8");
  request.on("data", (text: string) => (body += text));
  request.on("end", () => {
    received.push({ body, headers: texts(request.headers) });
    response.writeHead(204).end();
    heard();
  });
});

function texts(headers: IncomingHttpHeaders): Record<string, string> {
  return Object.fromEntries(Object.entries(headers).map(([name, value]) => [name, String(value)]));
}

before(async () => {
  await new Promise<void>((listening) => receiver.listen(0, "127.0.0.1", listening));
  server = await Server.start({ WEBHOOK_PRIVATE_NETWORKS: "true" });
  host = new Host(server);
});

after(async () => {
  receiver.close();
  await server.remove();
});

/** The next event, as it came. */
async function next(): Promise<Received> {
  const come = new Promise<void>((resolve) => {
    heard = () => received.length > 0 && resolve();
    heard();
  });
  await soon("an event", come);
  return received.shift() as Received;
}

test("the package of Standard Webhooks takes our events for ours, and no others", async () => {
  const { port } = receiver.address() as AddressInfo;
  const url = `http://127.0.0.1:${port}/hooks`;
  const endpoint = await host.call<Endpoint>("POST", "/v1/webhooks", { url });
  const verify = ({ body, headers }: Received, secret: string): CloudEvent =>
    new Webhook(secret).verify(body, headers) as CloudEvent;

  const show = await host.call<{ show_id: string }>("POST", "/v1/shows", { title: "Ärmel ✂", currency: "EUR" });
  await host.call("POST", `/v1/shows/${show.show_id}/start`);
  const started = await next();
  const event = verify(started, endpoint.secret);
  assert.deepEqual([event.type, event.data.show_id], ["show.started", show.show_id]);
  assert.equal(event.id, started.headers["webhook-id"]);

  const rotated = await host.call<Endpoint>("POST", `/v1/webhooks/${endpoint.webhook_id}/rotate`);
  await host.call("POST", `/v1/webhooks/${endpoint.webhook_id}/test`);
  const tested = await next();
  for (const secret of [endpoint.secret, rotated.secret]) assert.equal(verify(tested, secret).type, "webhook.test");

  const stranger = `whsec_${Buffer.alloc(32).toString("base64")}`;
  assert.throws(() => verify(tested, stranger), /No matching signature/);
  assert.throws(() => verify({ ...tested, body: `${tested.body} ` }, rotated.secret), /No matching signature/);
  assert.throws(() => verify({ ...tested, headers: started.headers }, rotated.secret), /No matching signature/);
});
