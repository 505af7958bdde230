import { createHash } from "node:crypto";
import { readdir, readFile } from "node:fs/promises";
import { fileURLToPath } from "node:url";
import type { FastifyInstance, FastifyReply, FastifyRequest } from "fastify";
import { OctavoError } from "../../core/errors.js";
import { DOCUMENT } from "./document.js";
import { ICON } from "./icon.js";
import { STYLE } from "./style.js";

interface PageFile {
  readonly type: string;
  readonly text: string;
  readonly etag: string;
}

/** Nothing from elsewhere, nothing inline: what a model writes could run nothing even if it came to be markup. */
const POLICY = [
  "default-src 'none'",
  "script-src 'self'",
  "style-src 'self'",
  "img-src 'self'",
  "connect-src 'self'",
  "base-uri 'none'",
  "form-action 'none'",
  "frame-ancestors 'none'",
].join("; ");

/** Where the compiler puts src/page; from dist/ and from the sources alike. */
const COMPILED = import.meta.url.endsWith(".ts")
  ? new URL("../../../dist/src/page/", import.meta.url)
  : new URL("../../page/", import.meta.url);

/** GET /, the page for people, and GET /page/{file}, what it is made of. Open to all: nothing in it is secret. */
export function pageRoutes(app: FastifyInstance): void {
  const document = fileOf("text/html", DOCUMENT);
  let files: Promise<Map<string, PageFile>> | undefined;
  app.get("/", async (request, reply) => {
    reply.header("content-security-policy", POLICY);
    reply.header("referrer-policy", "no-referrer");
    return send(request, reply, document);
  });
  app.get<{ Params: { file: string } }>(
    "/page/:file",
    { schema: { hide: true } as object },
    async (request, reply) => {
      const { file: name } = request.params;
      files ??= readFiles().catch((error: unknown) => {
        files = undefined;
        throw error;
      });
      const file = (await files).get(name);
      if (file === undefined)
        throw new OctavoError("not_found", `The page has no file ${name}.`);
      return send(request, reply, file);
    },
  );
}

function send(
  request: FastifyRequest,
  reply: FastifyReply,
  { type, text, etag }: PageFile,
): FastifyReply {
  reply.header("etag", etag);
  // Asked for anew each time, and not sent again: after an update no old script meets a new server.
  reply.header("cache-control", "no-cache");
  reply.header("x-content-type-options", "nosniff");
  if (request.headers["if-none-match"] === etag) return reply.code(304).send();
  reply.header("content-type", `${type}; charset=utf-8`);
  return reply.send(text);
}

async function readFiles(): Promise<Map<string, PageFile>> {
  const files = new Map([
    ["style.css", fileOf("text/css", STYLE)],
    ["icon.svg", fileOf("image/svg+xml", ICON)],
  ]);
  for (const name of await readdir(fileURLToPath(COMPILED))) {
    if (!name.endsWith(".js")) continue;
    const source = await readFile(new URL(name, COMPILED), "utf8");
    // Its source map is not served.
    const text = source.replace(/\n\/\/# sourceMappingURL=.*\n?$/, "\n");
    files.set(name, fileOf("text/javascript", text));
  }
  return files;
}

function fileOf(type: string, text: string): PageFile {
  const hash = createHash("sha256").update(text).digest("base64url");
  return { type, text, etag: `"${hash.slice(0, 27)}"` };
}
