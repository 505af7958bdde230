import { Ajv2020 } from "ajv/dist/2020.js";
import { expect, it } from "vitest";
import type { OpenApiDocument } from "../../src/server/openapi.js";
import { ROUTE_DOCS } from "../../src/server/openapi-routes.js";
import { tinyEncoder } from "../encoder/tiny-models.js";
import { says, ScriptedEngine, serve } from "./support.js";

async function described(): Promise<{ text: string; doc: OpenApiDocument }> {
  const { app } = await serve(new ScriptedEngine(says("x")));
  const answer = await app.inject("/openapi.json");
  expect(answer.statusCode).toBe(200);
  return { text: answer.body, doc: answer.json() };
}

const operationsOf = ({ paths }: OpenApiDocument) =>
  Object.entries(paths).flatMap(([path, methods]) =>
    Object.entries(methods).map(([method, operation]) => ({
      name: `${method.toUpperCase()} ${path}`,
      path,
      operation,
    })),
  );

it("describes every route, and no other", async () => {
  const { doc, text } = await described();
  expect(doc.openapi).toBe("3.1.0");
  expect(
    operationsOf(doc)
      .map(({ name }) => name)
      .sort(),
  ).toEqual(Object.keys(ROUTE_DOCS).sort());
  expect(text).not.toContain('"~');
  for (const { path, operation } of operationsOf(doc)) {
    const named = [...path.matchAll(/\{(\w+)\}/g)].map(([, name]) => name);
    const parameters = (operation["parameters"] ?? []) as { name: string }[];
    expect(parameters.map(({ name }) => name)).toEqual(named);
  }
});

it("has examples that its schemas accept, and schemas that refuse", async () => {
  const { doc } = await described();
  const ajv = new Ajv2020({ strict: false });
  let bodies = 0;
  for (const { name, operation } of operationsOf(doc)) {
    const body = operation.requestBody?.content["application/json"];
    if (body === undefined) continue;
    bodies++;
    const validate = ajv.compile(body.schema as object);
    expect(validate(body.example), name).toBe(true);
    expect(validate({ ...(body.example as object), model: 7 }), name).toBe(
      false,
    );
  }
  expect(bodies).toBeGreaterThanOrEqual(7);
});

it("has examples of answers whose fields the server gives", async () => {
  const { app, post } = await serve(new ScriptedEngine(says("x")), {
    info: { maxModelLen: 512 },
    encoder: { encoder: await tinyEncoder(), names: ["tiny-encoder"] },
  });
  for (const [name, { tag, request, response }] of Object.entries(ROUTE_DOCS)) {
    const [method, url = ""] = name.split(" ");
    if (url.includes("{") || typeof response === "string") continue;
    if (url === "/reset_prefix_cache" || url === "/openapi.json") continue;
    const model = tag === "Embed" ? "tiny-encoder" : "tiny";
    const fields = url === "/detokenize" ? { tokens: [65] } : { model };
    const answer =
      method === "GET"
        ? await app.inject(url)
        : await post(url, { ...request, ...fields });
    expect(answer.statusCode, name).toBe(200);
    const given = Object.keys(answer.json<object>());
    expect(given, name).toEqual(expect.arrayContaining(Object.keys(response)));
  }
});

it("is a page that loads nothing", async () => {
  const { app } = await serve(new ScriptedEngine(says("x")));
  const { headers, body } = await app.inject("/docs");
  expect(headers["content-type"]).toBe("text/html; charset=utf-8");
  for (const name of Object.keys(ROUTE_DOCS)) expect(body).toContain(name);
  expect(body).toContain("max_tokens");
  expect(body).toContain("a string, or a list of up to 64");
  expect(body.includes("<td>any")).toBe(false);
  expect(body).not.toMatch(/<script|src=|https?:/);
});
