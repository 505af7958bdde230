import type { FastifyInstance, RouteOptions } from "fastify";
import { speaksAnthropic } from "./anthropic-errors.js";
import { ADMIN_PATHS, API_PATHS } from "./auth.js";
import { docsPage } from "./docs-page.js";
import { ROUTE_DOCS, type RouteDoc } from "./openapi-routes.js";

/** By media type. */
type Content = Record<string, { schema: unknown; example?: unknown }>;

/** An operation of the description, as far as the page reads it. */
export interface Operation {
  readonly summary: string;
  readonly tags: readonly string[];
  readonly requestBody?: { required: boolean; content: Content };
  readonly responses: Record<string, { description: string; content: Content }>;
  readonly [field: string]: unknown;
}

export interface OpenApiDocument {
  readonly openapi: string;
  readonly info: { title: string; version: string; description: string };
  readonly paths: Record<string, Record<string, Operation>>;
  readonly components: object;
}

const ERROR = { $ref: "#/components/schemas/Error" };
const ANTHROPIC_ERROR = { $ref: "#/components/schemas/AnthropicError" };
const COMPONENTS = {
  schemas: {
    Error: {
      type: "object",
      required: ["error"],
      properties: {
        error: {
          type: "object",
          required: ["message", "type", "param", "code"],
          properties: {
            message: { type: "string" },
            type: { type: "string" },
            param: { type: ["string", "null"], description: "the field" },
            code: { type: ["string", "null"] },
          },
        },
      },
    },
    AnthropicError: {
      type: "object",
      required: ["type", "error"],
      properties: {
        type: { const: "error" },
        error: {
          type: "object",
          required: ["type", "message"],
          properties: {
            type: { type: "string" },
            message: { type: "string" },
          },
        },
        request_id: { type: "string" },
      },
    },
  },
  securitySchemes: { key: { type: "http", scheme: "bearer" } },
};

/**
 * GET /openapi.json (OpenAPI 3.1, of the routes that are there and the schemas that check them) and GET /docs (the same
 * as a page). Call before the routes are added. Not by @fastify/swagger: it hears only of routes that are added after it
 * has loaded, and an app is made in one go.
 */
export function describeRoutes(app: FastifyInstance, version: string): void {
  const paths: OpenApiDocument["paths"] = {};
  app.addHook("onRoute", (route) => {
    // A WebSocket: OpenAPI has no words for one.
    if ((route.schema as { hide?: boolean } | undefined)?.hide === true) return;
    const path = route.url.replace(/:(\w+)/g, "{$1}").replace(/\/\*$/, "/{id}");
    for (const method of [route.method].flat()) {
      // Fastify answers HEAD for every GET.
      if (method === "HEAD") continue;
      const name = `${method} ${path}`;
      const doc = ROUTE_DOCS[name] ?? undescribed(name);
      (paths[path] ??= {})[method.toLowerCase()] = operationOf(
        path,
        route,
        doc,
      );
    }
  });
  const document: OpenApiDocument = {
    openapi: "3.1.0",
    info: {
      title: "Octavo",
      version,
      description:
        "OpenAI's API, and vLLM's parameters beyond it. Optional fields also take null; unknown ones are accepted.",
    },
    paths,
    components: COMPONENTS,
  };
  app.get("/openapi.json", async () => document);
  app.get("/docs", async (_request, reply) => {
    reply.header("content-type", "text/html; charset=utf-8");
    reply.header(
      "content-security-policy",
      "default-src 'none'; style-src 'unsafe-inline'",
    );
    return docsPage(document);
  });
}

/** A test sees to it that no route of the server is one. */
const undescribed = (name: string): RouteDoc => ({
  summary: name,
  tag: "Operate",
  response: {},
});

function operationOf(
  path: string,
  { schema }: RouteOptions,
  doc: RouteDoc,
): Operation {
  const parameters = [...path.matchAll(/\{(\w+)\}/g)].map(([, name]) => ({
    name,
    in: "path",
    required: true,
    schema: { type: "string" },
  }));
  const guarded =
    API_PATHS.test(path) || path === "/metrics" || ADMIN_PATHS.includes(path);
  const json = typeof doc.response !== "string";
  const type = json
    ? "application/json"
    : path === "/docs" || path === "/"
      ? "text/html"
      : "text/plain";
  return {
    summary: doc.summary,
    tags: [doc.tag],
    ...(parameters.length > 0 && { parameters }),
    ...(guarded && { security: [{ key: [] }, {}] }),
    ...(schema?.body !== undefined && {
      requestBody: {
        required: true,
        content: {
          "application/json": { schema: schema.body, example: doc.request },
        },
      },
    }),
    responses: {
      "200": {
        description: doc.streams
          ? "the answer; with stream: true, server-sent events"
          : "the answer",
        content: {
          [type]: {
            schema: { type: json ? "object" : "string" },
            example: doc.response,
          },
          ...(doc.streams && {
            "text/event-stream": { schema: { type: "string" } },
          }),
        },
      },
      default: {
        description: "what went wrong",
        content: {
          "application/json": {
            schema: speaksAnthropic(path) ? ANTHROPIC_ERROR : ERROR,
          },
        },
      },
    },
  };
}
