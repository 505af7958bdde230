import http from "node:http";
import type { AddressInfo } from "node:net";
import { sendRequest, type RequestSettings } from "./client.js";
import { HttpClient } from "./http.js";

const ROUNDS = 12;
const AT_ONCE = 8;
const CHUNKS = 8;

/**
 * Runs the client against a stub in this process until it is compiled: without this the first requests of a run are
 * sent and read up to 10 ms late, which would be laid to the server. The server under load sees nothing of it.
 */
export async function warmUp(settings: RequestSettings): Promise<void> {
  const chunk = JSON.stringify({
    choices: [{ text: "a", delta: { content: "a" } }],
  });
  const stub = http.createServer((request, response) => {
    request.resume();
    request.on("end", () => {
      response.writeHead(200, { "content-type": "text/event-stream" });
      for (let i = 0; i < CHUNKS; i++) response.write(`data: ${chunk}\n\n`);
      response.end("data: [DONE]\n\n");
    });
  });
  await new Promise<void>((resolve) => stub.listen(0, "127.0.0.1", resolve));
  const { port } = stub.address() as AddressInfo;
  const client = new HttpClient(`http://127.0.0.1:${port}`, null);
  const body = Buffer.from("{}");
  for (let round = 0; round < ROUNDS; round++)
    await Promise.all(
      Array.from({ length: AT_ONCE }, () =>
        sendRequest(client, body, null, settings, performance.now()),
      ),
    );
  client.close();
  stub.close();
  stub.closeAllConnections();
}
