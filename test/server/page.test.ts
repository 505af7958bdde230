import { expect, it } from "vitest";
import { says, ScriptedEngine, serve } from "./support.js";

it("is a page whose parts come from the server alone, open to all", async () => {
  const { app } = await serve(new ScriptedEngine(says("x")), {
    apiKeys: ["secret"],
    metricsApiKey: "numbers",
  });
  const { statusCode, headers, body } = await app.inject("/");
  expect(statusCode).toBe(200);
  expect(headers["content-type"]).toBe("text/html; charset=utf-8");
  const policy = String(headers["content-security-policy"]);
  expect(policy).toContain("default-src 'none'");
  expect(policy).toContain("frame-ancestors 'none'");
  expect(policy).not.toMatch(/unsafe|https?:|\*/);
  expect(body).not.toMatch(/<script>|<style|style=|\son\w+=|https?:\/\//);
  const seen = new Set<string>();
  const queue = [...body.matchAll(/(?:src|href)="(page\/[^"]+)"/g)].map(
    ([, path = ""]) => path,
  );
  const types: Record<string, string> = {
    js: "text/javascript; charset=utf-8",
    css: "text/css; charset=utf-8",
    svg: "image/svg+xml; charset=utf-8",
  };
  for (let path = queue.pop(); path !== undefined; path = queue.pop()) {
    if (seen.has(path)) continue;
    seen.add(path);
    const file = await app.inject(`/${path}`);
    expect(file.statusCode, path).toBe(200);
    const kind = path.split(".").at(-1) ?? "";
    expect(file.headers["content-type"]).toBe(types[kind]);
    expect(file.headers["x-content-type-options"]).toBe("nosniff");
    expect(file.body, path).not.toContain("sourceMappingURL");
    for (const [, name] of file.body.matchAll(/from "\.\/([^"]+)"/g))
      queue.push(`page/${name}`);
    expect(file.body, path).not.toMatch(/from "(?!\.\/)|import\(/);
  }
  expect(seen.size).toBeGreaterThan(10);
});

it("sends a part again only when it has changed", async () => {
  const { app } = await serve(new ScriptedEngine(says("x")));
  for (const url of ["/", "/page/main.js", "/page/style.css"]) {
    const { etag } = (await app.inject(url)).headers;
    expect(etag).toMatch(/^"[\w-]{27}"$/);
    const headers = { "if-none-match": etag };
    const again = await app.inject({ url, headers });
    expect(again.statusCode).toBe(304);
    expect(again.body).toBe("");
    const other = await app.inject({
      url,
      headers: { "if-none-match": '"other"' },
    });
    expect(other.statusCode).toBe(200);
  }
});

it.each([
  "/page/none.js",
  "/page/..%2fserver%2fapp.js",
  "/page/main.d.ts",
  "/page/main.js.map",
  "/page/",
])("has no %s", async (url) => {
  const { app } = await serve(new ScriptedEngine(says("x")));
  const answer = await app.inject(url);
  expect(answer.statusCode).toBe(404);
  expect(answer.json()).toMatchObject({ error: { code: "not_found" } });
});
