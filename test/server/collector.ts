import http from "node:http";
import type { AddressInfo } from "node:net";
import { gunzipSync } from "node:zlib";
import type { Json } from "./support.js";

export interface CollectedSpan {
  name: string;
  kind: number;
  traceId: string;
  spanId: string;
  parentSpanId: string | undefined;
  traceState: string | undefined;
  /** Nanoseconds since 1970. */
  start: bigint;
  end: bigint;
  attributes: Record<string, unknown>;
  events: {
    name: string;
    time: bigint;
    attributes: Record<string, unknown>;
  }[];
  status: { code?: number; message?: string };
}

/** Takes OTLP/HTTP in JSON, as a collector does. */
export class Collector {
  readonly spans: CollectedSpan[] = [];
  readonly resources: Record<string, unknown>[] = [];
  readonly requests: { path: string; contentType: string }[] = [];
  private readonly server = http.createServer((request, response) => {
    const chunks: Buffer[] = [];
    request.on("data", (chunk: Buffer) => chunks.push(chunk));
    request.on("end", () => {
      this.requests.push({
        path: request.url ?? "",
        contentType: request.headers["content-type"] ?? "",
      });
      const body = Buffer.concat(chunks);
      const zipped = request.headers["content-encoding"] === "gzip";
      this.take(JSON.parse((zipped ? gunzipSync(body) : body).toString()));
      const answer = (): void => {
        response.writeHead(200, { "content-type": "application/json" });
        response.end('{"partialSuccess":{}}');
      };
      if (this.held === null) answer();
      else this.held.push(answer);
    });
  });
  private held: (() => void)[] | null = null;

  /** No request is answered until release(). */
  hold(): void {
    this.held = [];
  }

  release(): void {
    const answers = this.held ?? [];
    this.held = null;
    for (const answer of answers) answer();
  }

  async listen(): Promise<string> {
    await new Promise<void>((resolve) =>
      this.server.listen(0, "127.0.0.1", resolve),
    );
    const { port } = this.server.address() as AddressInfo;
    return `http://127.0.0.1:${port}`;
  }

  async close(): Promise<void> {
    this.server.closeAllConnections();
    await new Promise((resolve) => this.server.close(resolve));
  }

  /** The span of a prompt. */
  of(requestId: string): CollectedSpan | undefined {
    return this.spans.find(
      (span) => span.attributes["gen_ai.request.id"] === requestId,
    );
  }

  private take(body: Json): void {
    for (const { resource, scopeSpans } of body.resourceSpans) {
      this.resources.push(attributes(resource.attributes));
      for (const { spans } of scopeSpans)
        for (const span of spans)
          this.spans.push({
            name: span.name,
            kind: span.kind,
            traceId: span.traceId,
            spanId: span.spanId,
            parentSpanId: span.parentSpanId || undefined,
            traceState: span.traceState || undefined,
            start: BigInt(span.startTimeUnixNano),
            end: BigInt(span.endTimeUnixNano),
            attributes: attributes(span.attributes),
            events: span.events.map((event: Json) => ({
              name: event.name,
              time: BigInt(event.timeUnixNano),
              attributes: attributes(event.attributes),
            })),
            status: span.status,
          });
    }
  }
}

function attributes(list: Json): Record<string, unknown> {
  return Object.fromEntries(
    list.map(({ key, value }: Json) => [key, anyValue(value)]),
  );
}

/** OTLP's AnyValue in JSON: 64-bit integers may be strings. */
function anyValue(value: Json): unknown {
  if (value.intValue !== undefined) return Number(value.intValue);
  if (value.arrayValue !== undefined)
    return value.arrayValue.values.map(anyValue);
  return value.stringValue ?? value.doubleValue ?? value.boolValue;
}
