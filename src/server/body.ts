import type { FastifyInstance, FastifyReply, FastifyRequest } from "fastify";
import { OctavoError, reasonOf } from "../core/errors.js";
import { MAX_NESTING, nestsTooDeep } from "../core/nesting.js";
import { shown } from "./errors.js";

/** An error of the HTTP layer, with a status that no code of ours has. */
class MediaTypeError extends Error {
  readonly statusCode = 415;
}

/** Bodies are JSON. A browser cannot send that from a page of another origin without asking first. */
export function readBodies(app: FastifyInstance): void {
  const parse = app.getDefaultJsonParser("error", "error");
  app.removeAllContentTypeParsers();
  app.addContentTypeParser<string>(
    "application/json",
    { parseAs: "string" },
    (request, text, done) => {
      const encoding = request.headers["content-encoding"] ?? "identity";
      if (encoding !== "identity") return done(notTaken("Encoding", encoding));
      // Clients say application/json of every POST; the schemas see to it that a body is there where there must be one.
      if (text === "") return done(null, undefined);
      void parse(request, text, (error, body: unknown) => {
        if (error !== null) return done(notJson(text));
        try {
          checkNesting(body);
        } catch (tooDeep) {
          return done(tooDeep as Error);
        }
        done(null, body);
      });
    },
  );
  app.addContentTypeParser("*", (request, _payload, done) => {
    if (isEmpty(request) || request.is404) return done(null, undefined);
    done(notTaken("Type", request.headers["content-type"]));
  });
}

/** What a refused body may still bring, and for how long. */
const MAX_DISCARDED_BYTES = 2 ** 28;
const DISCARD_MS = 5000;

/**
 * Reads a refused body to its end, and drops it: many clients read no answer before they have written everything, and get
 * none where the connection is closed meanwhile.
 */
export async function readOn(
  { raw }: FastifyRequest,
  reply: FastifyReply,
): Promise<void> {
  if (raw.complete || raw.destroyed) return;
  await new Promise<void>((resolve) => {
    let left = MAX_DISCARDED_BYTES;
    const timer = setTimeout(resolve, DISCARD_MS);
    const done = (): void => {
      clearTimeout(timer);
      resolve();
    };
    raw.on("data", (chunk: Buffer) => {
      left -= chunk.length;
      if (left < 0) done();
    });
    raw.once("close", done).once("end", done).once("error", done).resume();
  });
  if (raw.complete) reply.removeHeader("connection");
}

function isEmpty({ headers }: FastifyRequest): boolean {
  return headers["content-length"] === "0";
}

function notTaken(what: "Type" | "Encoding", got: string | undefined): Error {
  const expected = what === "Type" ? "application/json" : "identity";
  return new MediaTypeError(
    `Content-${what}: expected ${expected}, got ${shown(got)}`,
  );
}

function notJson(text: string): OctavoError {
  let reason = "keys like __proto__ are not taken";
  try {
    JSON.parse(text);
  } catch (error) {
    reason = reasonOf(error);
  }
  return new OctavoError("invalid_request", `body: expected JSON: ${reason}`);
}

/** Errors: 400 that names the field. */
export function checkNesting(body: unknown): void {
  if (!nestsTooDeep(body)) return;
  const fields = Object.entries(body as object);
  const field = fields.find(([, v]) => nestsTooDeep(v, MAX_NESTING - 1))?.[0];
  throw new OctavoError(
    "invalid_request",
    `${field ?? "body"}: expected at most ${MAX_NESTING} levels of lists and objects, got more`,
    field ?? null,
  );
}
