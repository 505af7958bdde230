import net from "node:net";

/** One request as the bytes on the wire show it. Times by performance.now(). */
export interface Exchange {
  /** First byte of the request. */
  asked: number;
  /** Bytes that came back. */
  pieces: { at: number; bytes: Buffer }[];
}

export interface RecordingProxy {
  url: string;
  exchanges: Exchange[];
  close(): void;
}

/** Passes bytes between a client and `target` and notes when they came. It knows nothing of HTTP but where a POST begins. */
export async function recordingProxy(target: string): Promise<RecordingProxy> {
  const { hostname, port } = new URL(target);
  const exchanges: Exchange[] = [];
  const sockets = new Set<net.Socket>();
  const server = net.createServer((client) => {
    const upstream = net.connect(Number(port), hostname);
    let current: Exchange | null = null;
    client.setNoDelay(true);
    upstream.setNoDelay(true);
    client.on("data", (bytes) => {
      if (bytes.subarray(0, 5).toString() === "POST ") {
        current = { asked: performance.now(), pieces: [] };
        exchanges.push(current);
      } else if (bytes.subarray(0, 4).toString() === "GET ") current = null;
      upstream.write(bytes);
    });
    upstream.on("data", (bytes) => {
      current?.pieces.push({ at: performance.now(), bytes });
      client.write(bytes);
    });
    for (const [socket, other] of [
      [client, upstream],
      [upstream, client],
    ] as const) {
      sockets.add(socket);
      socket.on("error", () => other.destroy());
      socket.on("close", () => {
        sockets.delete(socket);
        other.destroy();
      });
    }
  });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  const address = server.address() as net.AddressInfo;
  return {
    url: `http://127.0.0.1:${address.port}`,
    exchanges,
    close: () => {
      server.close();
      for (const socket of sockets) socket.destroy();
    },
  };
}

/** What a recorded exchange says: TTFT in milliseconds, tokens of its usage, when it began and ended. */
export function wireFigures({ asked, pieces }: Exchange) {
  const first = pieces.find(({ bytes }) => bytes.includes('"choices":[{'));
  const text = Buffer.concat(pieces.map(({ bytes }) => bytes)).toString("utf8");
  return {
    ttft: (first?.at ?? NaN) - asked,
    tokens: Number(/"completion_tokens":(\d+)/.exec(text)?.[1]),
    asked,
    end: pieces.at(-1)?.at ?? NaN,
  };
}
