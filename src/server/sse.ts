import type { ServerResponse } from "node:http";
import type { FastifyReply } from "fastify";

/** Data of a server-sent event, serialized; some protocols name their events. */
export type Chunk = string | { readonly event: string; readonly data: string };

/** Server-sent events of all connections: what a step brings is gathered and written once, when the step's dispatch ends. */
export class StreamHub {
  private readonly dirty = new Set<EventStream>();

  /** @param maxBacklogBytes a reader further behind than this is dropped */
  constructor(private readonly maxBacklogBytes: number) {}

  /** Sends the headers at once and hands the connection over. */
  open(reply: FastifyReply): EventStream {
    reply.hijack();
    return new EventStream(reply, this.maxBacklogBytes, this.dirty);
  }

  /** Writes what has been gathered on every connection. */
  flush(): void {
    for (const stream of this.dirty) stream.flush();
    this.dirty.clear();
  }
}

/** One connection's events. After `end`, or when the connection is gone, everything is dropped. */
export class EventStream {
  private readonly raw: ServerResponse;
  private pending = "";
  private ending = false;
  private trailers: Record<string, string> = {};

  constructor(
    reply: FastifyReply,
    private readonly maxBacklogBytes: number,
    private readonly dirty: Set<EventStream>,
  ) {
    this.raw = reply.raw;
    for (const [name, value] of Object.entries(reply.getHeaders()))
      if (value !== undefined) this.raw.setHeader(name, value);
    this.raw.writeHead(200, {
      "content-type": "text/event-stream; charset=utf-8",
      "cache-control": "no-cache",
      connection: "keep-alive",
      // Proxies that buffer (nginx) would hold tokens back.
      "x-accel-buffering": "no",
    });
    this.raw.flushHeaders();
  }

  /** Queues one event: its data, already serialized, and its name where it has one. */
  event(chunk: Chunk): void {
    if (this.ending || this.raw.destroyed) return;
    this.pending +=
      typeof chunk === "string"
        ? `data: ${chunk}\n\n`
        : `event: ${chunk.event}\ndata: ${chunk.data}\n\n`;
    this.dirty.add(this);
  }

  /**
   * Queues the data that ends the stream, if there is some, and the end of the answer. Trailers must have been announced
   * in the headers.
   */
  done(
    terminator: string | null = "[DONE]",
    trailers: Record<string, string> = {},
  ): void {
    if (terminator !== null) this.event(terminator);
    this.ending = true;
    this.trailers = trailers;
    this.dirty.add(this);
  }

  /**
   * Writes what is queued. A reader so far behind that more than the bound lies unsent is cut off: its socket is
   * destroyed, and the request with it (a closed connection aborts).
   */
  flush(): void {
    if (this.raw.destroyed || this.raw.writableEnded) return;
    if (this.pending !== "") {
      this.raw.write(this.pending);
      this.pending = "";
    }
    if (this.ending) {
      this.raw.addTrailers(this.trailers);
      this.raw.end();
    } else if (this.raw.writableLength > this.maxBacklogBytes)
      this.raw.destroy();
  }
}
