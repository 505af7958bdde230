import { createHash } from "node:crypto";
import { mkdtempSync, renameSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import path from "node:path";
import { afterAll, describe, expect, it } from "vitest";
import { KeysFile } from "../../src/server/keys-file.js";
import { says, ScriptedEngine, serve } from "./support.js";

const folder = mkdtempSync(path.join(tmpdir(), "octavo-keys-"));
afterAll(() => rmSync(folder, { recursive: true, force: true }));

const file = path.join(folder, "keys");
function keysFile(text: string): KeysFile {
  writeFileSync(file, text);
  return new KeysFile(file);
}
const hex = (key: string): string =>
  createHash("sha256").update(key).digest("hex");

describe("--api-keys-file", () => {
  it("has a key on each line, with a name or without, plain or hashed", async () => {
    const keys = keysFile(
      `# comment\n\nalice  secret-a # hers\r\nsecret-b\nbob sha256:${hex("secret-c")}\nalice secret-d\n`,
    );
    const { app, post } = await serve(new ScriptedEngine(says("x")), {
      apiKeys: ["static"],
      keysFile: keys,
    });
    const send = (key: string) =>
      app.inject({
        url: "/v1/models",
        headers: { authorization: `Bearer ${key}` },
      });
    for (const key of [
      "secret-a",
      "secret-b",
      "secret-c",
      "secret-d",
      "static",
    ])
      expect((await send(key)).statusCode, key).toBe(200);
    for (const key of ["alice", "secret", "#", hex("secret-c"), "comment"])
      expect((await send(key)).statusCode, key).toBe(401);
    expect((await post("/v1/completions", { prompt: "a" })).statusCode).toBe(
      401,
    );
  });

  it("counts tokens by name, and takes what a reload brings", async () => {
    const keys = keysFile("alice secret-a\n");
    const { app } = await serve(new ScriptedEngine(says("x")), {
      keysFile: keys,
    });
    const complete = async (key: string): Promise<number> => {
      const answer = await app.inject({
        method: "POST",
        url: "/v1/completions",
        headers: { authorization: `Bearer ${key}` },
        payload: { prompt: "abc" },
      });
      return answer.statusCode;
    };
    expect(await complete("secret-a")).toBe(200);
    expect(await complete("secret-b")).toBe(401);
    writeFileSync(file, "bob secret-b\n");
    keys.reload();
    expect(await complete("secret-a")).toBe(401);
    expect(await complete("secret-b")).toBe(200);
    writeFileSync(file, "# nobody\n");
    expect(() => keys.reload()).toThrow(/at least one key/);
    expect(await complete("secret-b")).toBe(200);
    const metrics = (await app.inject("/metrics")).body;
    for (const [name, tokens] of [
      ["alice", 3],
      ["bob", 6],
    ])
      expect(metrics).toMatch(
        new RegExp(
          `octavo_key_tokens_total\\{[^}]*key="${name}",kind="prompt"[^}]*\\} ${tokens}$`,
          "m",
        ),
      );
  });

  it("hears of a file that was put in its place", async () => {
    const keys = keysFile("a\n");
    let heard = 0;
    const stop = keys.watch(() => heard++, 20);
    // Again and again: when it was looked at first is not told.
    let n = 0;
    await expect
      .poll(() => {
        writeFileSync(`${file}.new`, `bb\n${"#".repeat(n++)}`);
        renameSync(`${file}.new`, file);
        return heard;
      })
      .toBeGreaterThan(0);
    stop();
    keys.reload();
    expect(keys.keys.map(({ name }) => name)).toEqual([
      `sha256-${hex("bb").slice(0, 8)}`,
    ]);
  });

  it("has limits behind keys: those of a name are its client's, whichever key they stand behind", () => {
    const { keys } = keysFile(
      `alice a rpm=60 tpm=100000 # hers\nbob\tb\nalice YWxpY2U=  concurrency=4 rpm=60\nc max_tokens=9 max_choices=2\nrpm d\n`,
    );
    expect(keys.map(({ name, limits }) => [name, limits])).toEqual([
      ["alice", { rpm: 60, tpm: 100_000, concurrency: 4 }],
      ["bob", {}],
      ["alice", { rpm: 60, tpm: 100_000, concurrency: 4 }],
      [`sha256-${hex("c").slice(0, 8)}`, { max_tokens: 9, max_choices: 2 }],
      ["rpm", {}],
    ]);
    expect(keys[2]?.hash.toString("hex")).toBe(hex("YWxpY2U="));
  });

  it.each([
    ["a b c", /line 1: expected KEY or NAME KEY, got 3 words/],
    ["rpm=5", /line 1: expected KEY or NAME KEY, got 0 words/],
    ["a topsecret burst:5", /got 3 words; limits behind it are name=value/],
    ["a b topsecret rpm=5", /got 3 words; limits/],
    [
      "a b\n\na c rmp=5",
      /line 3: expected limits by the names rpm, tpm, .*, got "rmp"/,
    ],
    [
      "topsecret rmp=5",
      /line 1: expected limits by the names rpm, tpm, .*max_choices, got "rmp"/,
    ],
    ["a b rpm=5 topsecret=", /line 1: expected limits by the names/],
    ["a b rpm=5 tpm", /line 1: tpm: expected a whole number .*, got nothing/],
    ["a b rpm=0", /line 1: rpm: expected a whole number from 1 .*, got "0"/],
    ["a topsecret rpm=ten", /line 1: rpm: expected .*, got "ten"/],
    ["a b tpm=1e6", /line 1: tpm: expected .*, got "1e6"/],
    ["a b tpm=-5", /line 1: tpm: expected .*, got "-5"/],
    ["a b tpm=1234567890", /line 1: tpm: expected .* to 999999999, got/],
    ["a b rpm= 5", /line 1: rpm: expected .*, got ""/],
    ["a b rpm=5 rpm=5", /line 1: rpm stands there twice/],
    [
      "a b rpm=5\nb d rpm=6\na topsecret rpm=7",
      /line 3: rpm=7, but a line above says rpm=5 for a; keys of one name/,
    ],
    ["\nkey-1 topsecret", /line 2: expected a name/],
    ["a/b topsecret", /line 1: expected a name/],
    ["n sha256:topsecret", /64 hexadecimal digits/],
    ["topsecret\nx topsecret", /line 2: a line above has the same key/],
    ["", /at least one key/],
  ])("refuses %j, and tells no key", (text, message) => {
    expect(() => keysFile(text)).toThrow(message);
    expect(() => keysFile(text)).not.toThrow(/topsecret/);
  });

  it("refuses a file that is not there", () => {
    expect(() => new KeysFile(path.join(folder, "none"))).toThrow(
      /cannot read .*no such file/,
    );
  });
});
