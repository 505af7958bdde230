import net from "node:net";
import { describe, expect, it } from "vitest";
import { readStreams } from "../../bench/server/streams.js";
import { hasShared, runOctavo, STORIES } from "../e2e/server-process.js";

/** A server that answers every connection with these pieces, one write each. */
async function pieces(...answer: string[]) {
  const server = net.createServer((socket) => {
    socket.setNoDelay(true);
    socket.once("data", () => {
      answer.forEach((piece, i) =>
        setTimeout(() => {
          if (i === answer.length - 1) socket.end(piece);
          else socket.write(piece);
        }, i * 15),
      );
    });
  });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  const { port } = server.address() as net.AddressInfo;
  const settings = { host: "127.0.0.1", port, path: "/", body: "{}", count: 3 };
  return { settings, close: () => server.close() };
}

describe("the client of octavo bench server", () => {
  it("counts events however the bytes are cut", async () => {
    const { settings, close } = await pieces(
      "HTTP/1.1 200 OK\r\n\r\nda",
      "ta: 1\n\ndata",
      ": 2\n\ndata: 3\n\ndata: [DO",
      "NE]\n\n",
    );
    const { events, seconds } = await readStreams(settings);
    expect(events).toBe(3 * 3);
    expect(seconds).toBeGreaterThan(0);
    close();
  });

  it("does not take a broken stream for a whole one", async () => {
    const { settings, close } = await pieces(
      "HTTP/1.1 400 Bad Request\r\nx: y\r\n\r\n",
      '{"error":"no"}',
    );
    await expect(readStreams(settings)).rejects.toThrow(
      'a stream ended before [DONE]: HTTP/1.1 400 Bad Request {"error":"no"}',
    );
    close();
  });
});

describe.skipIf(!hasShared)(
  "octavo bench server (needs ../shared/models/stories260k)",
  () => {
    it("reports events and tokens per processor-second", async () => {
      const run = async (interval: number) => {
        const { code, stdout, stderr } = await runOctavo(
          `bench server --model ${STORIES} --num-streams 32 --output-len 300 --rounds 1 --stream-interval ${interval}`.split(
            " ",
          ),
        );
        expect(stderr).toBe("");
        expect(code).toBe(0);
        const match =
          /^ {2}(\d+) events in .*: (\d+) events\/s, (\d+) tokens\/s$/m.exec(
            stdout,
          );
        return (match ?? []).slice(1).map(Number);
      };
      const [events = 0, eventRate = 0, tokenRate = 0] = await run(1);
      // Half of this vocabulary are bytes, of which a part of a character is no event of its own.
      expect(events).toBeLessThanOrEqual(32 * 300);
      expect(events).toBeGreaterThan(32 * 100);
      expect(tokenRate / eventRate).toBeCloseTo((32 * 300) / events, 1);
      const [fewer = 0] = await run(10);
      expect(fewer).toBeLessThanOrEqual(32 * 32);
      expect(fewer).toBeGreaterThanOrEqual(32 * 30);
    });
  },
);
