import type { ServerResponse } from "node:http";
import { Socket } from "node:net";
import type { FastifyReply } from "fastify";
import { tellAllowances } from "./limit-requests.js";

/** Data of a server-sent event, serialized; some protocols name their events. */
export type Chunk = string | { readonly event: string; readonly data: string };

/**
 * Milliseconds that events may wait for those of later steps. They wait only while steps come faster than they can be
 * written: then a write for several of them keeps up where a write for each would not.
 */
const MAX_DELAY_MS = 4;

interface Flushable {
  flush(): void;
}

/**
 * Server-sent events of all connections: what a step brings is gathered and written once, when every step that has arrived
 * by now is dispatched.
 */
export class StreamHub {
  private readonly dirty = new Set<Flushable>();
  private scheduled: NodeJS.Immediate | null = null;
  /** performance.now() of the first step that is not written out. */
  private since = 0;

  /** @param maxBacklogBytes a reader further behind than this is dropped: see Backlog */
  constructor(readonly maxBacklogBytes: number) {}

  /** Sends the headers at once and hands the connection over. */
  open(reply: FastifyReply): EventStream {
    reply.hijack();
    tellAllowances(reply);
    return new EventStream(reply, this.maxBacklogBytes, this.dirty);
  }

  /** Something else than server-sent events has something to write. */
  add(stream: Flushable): void {
    this.dirty.add(stream);
  }

  /** After each step: writes in this turn of the event loop, together with steps that are waiting to be dispatched. */
  flushSoon(): void {
    if (this.dirty.size === 0) return;
    const time = performance.now();
    if (this.scheduled === null) {
      this.since = time;
      this.scheduled = setImmediate(() => this.flush());
    } else if (time - this.since > MAX_DELAY_MS) this.flush();
  }

  /** Writes what has been gathered on every connection. */
  flush(): void {
    if (this.scheduled !== null) clearImmediate(this.scheduled);
    this.scheduled = null;
    for (const stream of this.dirty) stream.flush();
    this.dirty.clear();
  }
}

/** Whether a reader keeps up. What repeats its own request is not held against it, however long. */
export class Backlog {
  /** Bytes of echoes that may still lie unsent. */
  private echoes = 0;

  /** @param maxBytes that may lie unsent beside them */
  constructor(readonly maxBytes: number) {}

  /**
   * To be asked before a write. False: the reader is too far behind.
   * @param unsent bytes of earlier writes
   * @param echoes bytes of the coming write that repeat a request
   */
  takes(unsent: number, echoes: number): boolean {
    this.echoes = Math.min(this.echoes, unsent);
    if (unsent > this.maxBytes + this.echoes) return false;
    this.echoes += echoes;
    return true;
  }
}

/** One connection's events. After `end`, or when the connection is gone, everything is dropped. */
export class EventStream {
  private readonly raw: ServerResponse;
  private pending = "";
  /** Bytes of what is pending that repeat the request. */
  private echoes = 0;
  private ending = false;
  private trailers: Record<string, string> = {};
  private readonly backlog: Backlog;

  constructor(
    reply: FastifyReply,
    maxBacklogBytes: number,
    private readonly dirty: Set<Flushable>,
  ) {
    this.raw = reply.raw;
    this.backlog = new Backlog(maxBacklogBytes);
    for (const [name, value] of Object.entries(reply.getHeaders()))
      if (value !== undefined) this.raw.setHeader(name, value);
    this.raw.writeHead(200, {
      "content-type": "text/event-stream; charset=utf-8",
      "cache-control": "no-cache",
      // Proxies that buffer (nginx) would hold tokens back.
      "x-accel-buffering": "no",
    });
    this.raw.flushHeaders();
  }

  /**
   * Queues one event: its data, already serialized, and its name where it has one.
   * @param echo it repeats what the request brought
   */
  event(chunk: Chunk, echo = false): void {
    if (this.ending || this.raw.destroyed) return;
    const text =
      typeof chunk === "string"
        ? `data: ${chunk}\n\n`
        : `event: ${chunk.event}\ndata: ${chunk.data}\n\n`;
    this.pending += text;
    if (echo) this.echoes += Buffer.byteLength(text);
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
    const { raw, pending, echoes } = this;
    if (raw.destroyed || raw.writableEnded) return;
    this.pending = "";
    this.echoes = 0;
    if (!this.ending && !this.backlog.takes(raw.writableLength, echoes)) {
      raw.destroy();
      return;
    }
    if (pending !== "") writeChunk(raw, pending);
    if (!this.ending) return;
    raw.addTrailers(this.trailers);
    raw.end();
  }
}

/**
 * As `raw.write(text)`, in one write of one string: Node's own makes four of them for a chunk (its size, a line end, the
 * text, a line end), which costs more than all else that is done for a token. A response that waits behind another one on
 * its connection has no socket yet, one to an HTTP/1.0 client is not chunked, and inject() has no real socket: those go
 * Node's way.
 */
function writeChunk(raw: ServerResponse, text: string): void {
  const { socket } = raw;
  if (!(socket instanceof Socket) || !raw.chunkedEncoding) {
    raw.write(text);
    return;
  }
  const bytes = Buffer.byteLength(text);
  // Nothing but ASCII has as many bytes as characters; Node copies that faster.
  const encoding = bytes === text.length ? "latin1" : "utf8";
  socket.write(`${bytes.toString(16)}\r\n${text}\r\n`, encoding);
}
