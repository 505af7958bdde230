import type { WebSocket } from "ws";
import { now } from "../../core/config.js";
import { OctavoError } from "../../core/errors.js";
import { checkNesting } from "../body.js";
import { CLIENT_CLOSED_REQUEST } from "../access-log.js";
import { errorAnswer, invalidField } from "../errors.js";
import { admit, openaiHeaders } from "../limit-requests.js";
import type { ServerContext } from "../options.js";
import type { RequestOrigin, Sender } from "../origin.js";
import { Backlog } from "../sse.js";
import { isFields, type Fields } from "../tools.js";
import { isEcho } from "./builder.js";
import { newId, type Item, type ResponseResource } from "./resource.js";
import { ResponseRun } from "./run.js";
import type { ResponsesBody } from "./schema.js";
import { ResponseStore, SOCKET_BOUNDS, type StoredResponse } from "./store.js";
import { prepareTurn, type Memory } from "./turn.js";

/** Most responses of a connection that are under way at once, one per stream. */
export const MAX_STREAMS = 64;
/** Most messages that wait for the response before them on their stream, over all streams of a connection. */
export const MAX_WAITING = 64;
const PING_INTERVAL_MS = 30_000;
const MAX_STREAM_ID = 256;

/** Close codes of RFC 6455: the server is going away. */
const GOING_AWAY = 1001;

/** The stream of messages without a stream_id. */
const UNNAMED = "";

/** A response.create that waits or is under way. */
interface Job {
  readonly message: Fields;
  run: ResponseRun | null;
  /** Nobody wants it any more: it is stopped as soon as it has begun. */
  cancelled: boolean;
}

export interface SocketOptions {
  readonly context: ServerContext;
  /** What the server keeps. */
  readonly store: ResponseStore;
  /** The upgrade request's. */
  readonly origin: RequestOrigin;
  /** Returns the body, or throws 400. */
  readonly validate: (body: Fields) => ResponsesBody;
  /** Throws 401 once the key of the upgrade request is none any more. */
  readonly checkKey: () => void;
  /** Hears of each response that was asked for, and of the status that an answer over HTTP would have had. */
  readonly onEnded: (sender: Sender, status: number) => void;
  /** Hears of errors that are the server's own. */
  readonly onFailure: (error: unknown) => void;
}

/**
 * One WebSocket's conversations. Each stream has its own queue, in which a response begins when the one before it has
 * ended; responses of different streams run side by side.
 *
 *   message -> job -> (its stream's turn) -> prepared -> run -> events -> pending -> flush -> socket
 */
export class ResponseSocket {
  private readonly memory = new ResponseStore(SOCKET_BOUNDS);
  private readonly streams = new Map<string, Job[]>();
  private pending: string[] = [];
  /** Bytes of what is pending that repeat requests. */
  private echoes = 0;
  /** Responses that are held until the reader keeps up. */
  private readonly held: (() => void)[] = [];
  private numWaiting = 0;
  private alive = true;
  private closed = false;
  private draining = false;
  private readonly pings: NodeJS.Timeout;
  private readonly backlog: Backlog;

  constructor(
    private readonly socket: WebSocket,
    private readonly options: SocketOptions,
    onClosed: () => void,
  ) {
    this.backlog = new Backlog(options.context.streams.maxBacklogBytes);
    socket.on("message", (data, isBinary) =>
      this.receive(isBinary ? null : (data as Buffer).toString()),
    );
    socket.on("pong", () => (this.alive = true));
    socket.on("close", () => {
      this.close();
      onClosed();
    });
    this.pings = setInterval(() => this.ping(), PING_INTERVAL_MS);
    this.pings.unref();
  }

  /** No more messages are taken; the socket closes when what is under way has ended. */
  drain(): void {
    this.draining = true;
    this.closeIfDone();
  }

  /**
   * Writes what has been gathered. A reader so far behind that more than the bound lies unsent is cut off, and what it had
   * under way ends.
   */
  flush(): void {
    if (this.closed) return;
    const { pending, echoes, socket } = this;
    this.pending = [];
    this.echoes = 0;
    if (!this.backlog.takes(socket.bufferedAmount, echoes)) {
      socket.terminate();
      return;
    }
    const last = pending.pop();
    for (const text of pending) socket.send(text);
    if (last !== undefined) socket.send(last, () => this.sent());
    this.closeIfDone();
  }

  /** Resolves when the reader is not behind: then another response may begin. */
  private async keptUp(): Promise<void> {
    while (!this.closed && this.isBehind)
      await new Promise<void>((resolve) => this.held.push(resolve));
  }

  private get isBehind(): boolean {
    return this.socket.bufferedAmount > this.backlog.maxBytes;
  }

  private sent(): void {
    if (this.held.length === 0 || this.isBehind) return;
    // Each looks again: what the one before it sends may be too much.
    for (const resume of this.held.splice(0)) resume();
  }

  private ping(): void {
    if (!this.alive) return this.socket.terminate();
    this.alive = false;
    this.socket.ping();
  }

  /** The connection is gone: everything of it ends. */
  private close(): void {
    this.closed = true;
    clearInterval(this.pings);
    for (const [job] of this.streams.values()) {
      if (job === undefined) continue;
      job.cancelled = true;
      job.run?.cancel();
    }
    this.streams.clear();
    for (const resume of this.held.splice(0)) resume();
  }

  private closeIfDone(): void {
    if (this.draining && this.streams.size === 0 && this.pending.length === 0)
      this.socket.close(GOING_AWAY, "the server is shutting down");
  }

  private receive(text: string | null): void {
    let stream: string | null = null;
    try {
      const message = parse(text);
      stream = streamOf(message);
      const { type } = message;
      this.options.checkKey();
      if (type === "response.create") this.enqueue(stream, message);
      else if (type === "response.cancel") this.cancel(stream, message);
      else
        throw invalidField("type", "response.create or response.cancel", type);
    } catch (error) {
      this.error(error, stream);
    }
    this.flush();
  }

  private enqueue(stream: string, message: Fields): void {
    if (this.draining)
      throw new OctavoError("shutting_down", "The server is shutting down.");
    const jobs = this.streams.get(stream);
    const job: Job = { message, run: null, cancelled: false };
    if (jobs === undefined) {
      if (this.streams.size >= MAX_STREAMS)
        throw new OctavoError(
          "rate_limit_exceeded",
          `A connection has at most ${MAX_STREAMS} responses under way.`,
          "stream_id",
        );
      this.streams.set(stream, [job]);
      void this.work(stream, job);
      return;
    }
    if (this.numWaiting >= MAX_WAITING)
      throw new OctavoError(
        "rate_limit_exceeded",
        `At most ${MAX_WAITING} messages of a connection wait for the response before them.`,
      );
    this.numWaiting++;
    jobs.push(job);
  }

  /**
   * Stops the response that is named, or the first of a stream that is not stopped yet: one cancel for each create, however
   * close they come.
   */
  private cancel(stream: string, { response_id: id }: Fields): void {
    if (id != null && typeof id !== "string")
      throw invalidField("response_id", "a string", id);
    const own = this.streams.get(stream) ?? [];
    const job =
      id == null
        ? (own.find(({ cancelled }) => !cancelled) ?? own[0])
        : [...this.streams.values()]
            .map(([first]) => first)
            .find((first) => first?.run?.response.id === id);
    if (job === undefined)
      throw invalidField(
        id == null ? "stream_id" : "response_id",
        "a response that is under way on this connection",
        id ?? (stream === UNNAMED ? undefined : stream),
      );
    job.cancelled = true;
    job.run?.cancel();
  }

  /** One response, then the next of its stream. Each is held to its client's limits when its turn has come. */
  private async work(stream: string, job: Job): Promise<void> {
    const sender = this.sender();
    let end: (() => void) | null = null;
    try {
      end = admit(this.options.context, sender.origin);
      this.options.onEnded(sender, await this.respond(stream, job, sender));
    } catch (error) {
      const status = this.error(error, stream, sender.origin);
      this.options.onEnded(sender, status);
    } finally {
      end?.();
    }
    const jobs = this.streams.get(stream);
    if (jobs === undefined) return;
    jobs.shift();
    const [next] = jobs;
    if (next === undefined) this.streams.delete(stream);
    else {
      this.numWaiting--;
      void this.work(stream, next);
    }
    this.flush();
  }

  /** Resolves with a status when the response has ended. Rejects with what keeps it from beginning. */
  private async respond(
    stream: string,
    job: Job,
    sender: Sender,
  ): Promise<number> {
    const { context, store } = this.options;
    const body = this.options.validate(bodyOf(job.message));
    const turn = await prepareTurn(context, body, sender, this.lookup);
    const named = stream === UNNAMED ? {} : { stream_id: stream };
    await this.keptUp();
    return new Promise<number>((resolve) => {
      const stores = turn.response.store ? [store] : [];
      const run = new ResponseRun(context, turn, [this.memory, ...stores], {
        event: (event) => this.send({ ...event, ...named }, isEcho(event)),
        end: (response, error) => {
          context.serverLoad--;
          resolve(statusOf(response, error));
        },
      });
      context.serverLoad++;
      job.run = run;
      run.begin();
      if (job.cancelled || this.closed) run.cancel();
      this.flush();
    });
  }

  /** Each response is a request of its own, that arrived with its message. */
  private sender(): Sender {
    const { key, route, traceparent, tracestate } = this.options.origin;
    const origin: RequestOrigin = {
      arrivalTime: now(),
      route,
      key,
      quota: null,
      traceparent,
      tracestate,
      record: null,
    };
    return { id: newId("req_"), origin };
  }

  /** What the connection remembers comes before what the server keeps. */
  private readonly lookup: Memory = {
    find: (id: string, key: string): StoredResponse | undefined =>
      this.memory.find(id, key) ?? this.options.store.find(id, key),
    findItem: (id: string, key: string): Item | undefined =>
      this.memory.findItem(id, key) ?? this.options.store.findItem(id, key),
  };

  /** Tells of it, with what an answer would have in its headers. Returns its status. */
  private error(
    error: unknown,
    stream: string | null,
    origin: RequestOrigin | null = null,
  ): number {
    const { status, retryAfter, body } = errorAnswer(error);
    if (status === 500) this.options.onFailure(error);
    const named =
      stream === null || stream === UNNAMED ? {} : { stream_id: stream };
    const headers = {
      ...(retryAfter !== null && { "retry-after": String(retryAfter) }),
      ...(origin?.quota && openaiHeaders(origin.quota)),
    };
    const told = Object.keys(headers).length > 0 ? { headers } : {};
    this.send({ type: "error", status, error: body.error, ...told, ...named });
    return status;
  }

  /** @param echo it repeats what a request brought */
  private send(event: object, echo = false): void {
    if (this.closed) return;
    const text = JSON.stringify(event);
    this.pending.push(text);
    if (echo) this.echoes += Buffer.byteLength(text);
    this.options.context.streams.add(this);
  }
}

function statusOf(
  { status }: ResponseResource,
  error: OctavoError | null,
): number {
  if (error !== null) return errorAnswer(error).status;
  return status === "cancelled" ? CLIENT_CLOSED_REQUEST : 200;
}

/** Errors: 400 for what is not a JSON object. */
function parse(text: string | null): Fields {
  if (text === null)
    throw new OctavoError("invalid_request", "Messages are text: JSON.");
  let message: unknown;
  try {
    message = JSON.parse(text);
  } catch {
    throw new OctavoError("invalid_request", "The message is not valid JSON.");
  }
  if (isFields(message)) {
    checkNesting(message);
    return message;
  }
  throw new OctavoError("invalid_request", "The message is not a JSON object.");
}

function streamOf({ stream_id: id }: Fields): string {
  if (id == null) return UNNAMED;
  if (typeof id === "string" && id !== "" && id.length <= MAX_STREAM_ID)
    return id;
  throw invalidField("stream_id", `1 to ${MAX_STREAM_ID} characters`, id);
}

/** Every response is streamed here. Errors: 400 for fields that say otherwise. */
function bodyOf(message: Fields): Fields {
  const { type: _, stream_id: __, ...body } = message;
  if (body["stream"] != null && body["stream"] !== true)
    throw invalidField(
      "stream",
      "nothing: WebSockets always stream",
      body["stream"],
    );
  return { ...body, stream: true };
}
