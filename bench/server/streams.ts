import net from "node:net";
import { OctavoError } from "../../src/core/errors.js";

export interface StreamsSettings {
  host: string;
  port: number;
  path: string;
  /** Serialized body, the same for every stream. */
  body: string;
  count: number;
}

export interface StreamsOutcome {
  /** Server-sent events in all, the closing [DONE]s not counted. */
  events: number;
  bytes: number;
  seconds: number;
}

const MARK = "data: ";
const END = "data: [DONE]";
/** Bytes of an answer that are kept for the case that it is a refusal. */
const MAX_HEAD = 2000;

/**
 * Opens `count` streams at once and reads them to their ends, looking at no more of the bytes than where events begin: the
 * client must cost less than the server that it measures. Rejects when a stream breaks off or is refused.
 */
export async function readStreams(
  settings: StreamsSettings,
): Promise<StreamsOutcome> {
  const start = performance.now();
  const streams = await Promise.all(
    Array.from({ length: settings.count }, () => readOne(settings)),
  );
  return {
    events: streams.reduce((sum, { events }) => sum + events, 0),
    bytes: streams.reduce((sum, { bytes }) => sum + bytes, 0),
    seconds: (performance.now() - start) / 1000,
  };
}

function readOne({
  host,
  port,
  path,
  body,
}: StreamsSettings): Promise<{ events: number; bytes: number }> {
  return new Promise((resolve, reject) => {
    const socket = net.connect(port, host);
    let marks = 0;
    let bytes = 0;
    let done = false;
    let head = "";
    // Where the bytes were cut a mark may lie on both sides.
    let tail = "";
    socket.on("connect", () =>
      socket.write(
        `POST ${path} HTTP/1.1\r\nhost: ${host}:${port}\r\nconnection: close\r\ncontent-type: application/json\r\ncontent-length: ${Buffer.byteLength(body)}\r\n\r\n${body}`,
      ),
    );
    socket.on("data", (piece: Buffer) => {
      const text = tail + piece.toString("latin1");
      if (bytes < MAX_HEAD) head += piece.toString("latin1", 0, MAX_HEAD);
      bytes += piece.length;
      marks += countMarks(text) - countMarks(tail);
      done ||= text.includes(END);
      tail = text.slice(1 - END.length);
    });
    socket.on("error", reject);
    socket.on("close", () => {
      if (done) resolve({ events: marks - 1, bytes });
      else reject(brokenOff(head));
    });
  });
}

/** The status line, and what the body says. */
function brokenOff(answer: string): OctavoError {
  const status = answer.split("\r\n", 1)[0] ?? "";
  const body = answer.split("\r\n\r\n")[1] ?? "";
  return new OctavoError(
    "invalid_config",
    `a stream ended before [DONE]: ${status || "no answer"} ${body.slice(0, 300)}`,
  );
}

function countMarks(text: string): number {
  let count = 0;
  for (let at = text.indexOf(MARK); at >= 0; at = text.indexOf(MARK, at + 1))
    count++;
  return count;
}
