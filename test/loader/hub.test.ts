import { randomBytes } from "node:crypto";
import {
  existsSync,
  lstatSync,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  readlinkSync,
  rmSync,
  utimesSync,
  writeFileSync,
} from "node:fs";
import { readdir } from "node:fs/promises";
import os from "node:os";
import path from "node:path";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import {
  downloadModel,
  isHubName,
  type HubRequest,
} from "../../src/loader/hub.js";
import { hubSettings } from "../../src/loader/hub-settings.js";
import { partialOf } from "../../src/loader/hub-download.js";
import {
  gitHash,
  hubServer,
  sha256,
  type HubOptions,
  type HubServer,
} from "../support/hub-server.js";

const REPO = "octavo-test/tiny";
const WEIGHTS = randomBytes(300_000);
const FILES: Record<string, Buffer> = {
  "README.md": Buffer.from("# Tiny"),
  "config.json": Buffer.from('{"model_type":"llama"}'),
  "generation_config.json": Buffer.from('{"top_k":1}'),
  "tokenizer.json": Buffer.from('{"model":{}}'),
  "tokenizer_config.json": Buffer.from("{}"),
  "additional_chat_templates/tool_use.jinja": Buffer.from("{{ tools }}"),
  "model.safetensors": WEIGHTS,
  "pytorch_model.bin": randomBytes(1000),
  "onnx/model.onnx": randomBytes(1000),
};
const NEEDED = [
  "additional_chat_templates/tool_use.jinja",
  "config.json",
  "generation_config.json",
  "model.safetensors",
  "tokenizer.json",
  "tokenizer_config.json",
];

describe("a model by hub name", () => {
  let home: string;
  let server: HubServer;

  beforeEach(async () => {
    home = mkdtempSync(path.join(os.tmpdir(), "octavo-hub-"));
    server = await hubServer(FILES);
  });
  afterEach(() => {
    server.close();
    rmSync(home, { recursive: true, force: true });
  });

  const restart = async (
    files: Record<string, Buffer>,
    options?: HubOptions,
  ): Promise<void> => {
    server.close();
    server = await hubServer(files, options);
  };
  const settings = (environment: NodeJS.ProcessEnv = {}) =>
    hubSettings({ HF_HOME: home, HF_ENDPOINT: server.url, ...environment });
  const download = (
    request: Partial<HubRequest> = {},
    environment: NodeJS.ProcessEnv = {},
  ): Promise<string> =>
    downloadModel({
      repo: REPO,
      revision: "main",
      weights: true,
      retryWaits: [10, 10, 10],
      settings: settings(environment),
      ...request,
    });
  const folder = (): string => path.join(home, "hub/models--octavo-test--tiny");
  const blob = (bytes: Buffer): string =>
    path.join(folder(), "blobs", sha256(bytes));
  const ranges = (): (string | undefined)[] =>
    server
      .files()
      .filter(({ file }) => file === "model.safetensors")
      .map(({ range }) => range);
  const expectWhole = async (directory: string): Promise<void> => {
    const names = await readdir(directory, { recursive: true });
    const files = names.filter(
      (name) => !lstatSync(path.join(directory, name)).isDirectory(),
    );
    expect(files.sort()).toEqual(NEEDED);
    for (const name of files) {
      const bytes = readFileSync(path.join(directory, name));
      expect([name, bytes.equals(FILES[name] ?? Buffer.alloc(0))]).toEqual([
        name,
        true,
      ]);
    }
  };

  it("fetches only what is needed, into the layout of the hub's own tools", async () => {
    const progress: [string, number, number][] = [];
    const directory = await download({
      onProgress: (...step) => progress.push(step),
    });
    expect(directory).toBe(path.join(folder(), "snapshots", server.commit));
    await expectWhole(directory);
    expect(readFileSync(path.join(folder(), "refs/main"), "utf8")).toBe(
      server.commit,
    );
    // Large files are named by SHA-256, small ones by git's hash, as their ETags are.
    expect(readlinkSync(path.join(directory, "model.safetensors"))).toBe(
      `../../blobs/${sha256(WEIGHTS)}`,
    );
    const template = "additional_chat_templates/tool_use.jinja";
    expect(readlinkSync(path.join(directory, template))).toBe(
      `../../../blobs/${gitHash(FILES[template] ?? Buffer.alloc(0))}`,
    );
    const fetched = server.files().map(({ file }) => file);
    expect([...fetched].sort()).toEqual(NEEDED);
    expect(fetched.at(-1)).toBe("model.safetensors");
    expect(progress.at(-1)).toEqual([
      "weights",
      WEIGHTS.length,
      WEIGHTS.length,
    ]);
    expect(await readdir(path.join(home, "hub/.locks"))).toHaveLength(1);
    expect(
      await readdir(path.join(home, "hub/.locks/models--octavo-test--tiny")),
    ).toEqual([]);
  });

  it("fetches no file twice, and nothing at all for a commit that is there", async () => {
    const first = await download();
    server.requests.length = 0;
    expect(await download()).toBe(first);
    expect(server.files()).toEqual([]);
    expect(server.requests.length).toBeGreaterThan(0);
    server.requests.length = 0;
    expect(await download({ revision: server.commit })).toBe(first);
    expect(server.requests).toEqual([]);
  });

  it("follows a branch to its new commit and fetches only what changed", async () => {
    const first = await download();
    const old = server.commit;
    server.publish({ ...FILES, "config.json": Buffer.from('{"new":true}') });
    server.requests.length = 0;
    const second = await download();
    expect(second).not.toBe(first);
    expect(server.files().map(({ file }) => file)).toEqual(["config.json"]);
    expect(await download({ revision: old })).toBe(first);
  });

  it("takes a tag", async () => {
    await restart(FILES, { tags: { "v1.0": server.commit } });
    server.publish({ ...FILES, "config.json": Buffer.from('{"new":true}') });
    await expectWhole(await download({ revision: "v1.0" }));
    expect(existsSync(path.join(folder(), "refs/v1.0"))).toBe(true);
  });

  it("fetches the shards that the index names, and no others", async () => {
    const shards: Record<string, Buffer> = {
      "model-00001-of-00002.safetensors": randomBytes(5000),
      "model-00002-of-00002.safetensors": randomBytes(5000),
    };
    const index = {
      weight_map: { a: Object.keys(shards)[0], b: Object.keys(shards)[1] },
    };
    const { "model.safetensors": _, ...rest } = FILES;
    await restart({
      ...rest,
      ...shards,
      "consolidated.safetensors": randomBytes(100),
      "model.safetensors.index.json": Buffer.from(JSON.stringify(index)),
    });
    const directory = await download();
    for (const [name, bytes] of Object.entries(shards))
      expect(readFileSync(path.join(directory, name))).toEqual(bytes);
    expect(existsSync(path.join(directory, "consolidated.safetensors"))).toBe(
      false,
    );
    server.requests.length = 0;
    expect(await download()).toBe(directory);
    expect(server.files()).toEqual([]);
  });

  it("leaves the weights at the hub where they are not needed", async () => {
    const directory = await download({ weights: false });
    expect(existsSync(path.join(directory, "config.json"))).toBe(true);
    expect(ranges()).toEqual([]);
    await expectWhole(await download());
  });

  it("goes on after a connection that breaks off, without fetching a byte twice", async () => {
    let cuts = 0;
    server.setFault(({ server: which, file }) =>
      which === "storage" && file === "model.safetensors" && cuts++ < 2
        ? { cutAfter: 100_000 }
        : undefined,
    );
    await expectWhole(await download());
    expect(ranges()).toEqual([undefined, "bytes=100000-", "bytes=200000-"]);
  });

  it("goes on after being stopped", async () => {
    const stop = new AbortController();
    server.setFault(({ server: which }) =>
      which === "storage" ? { holdAfter: 120_000 } : undefined,
    );
    await expect(
      download({
        signal: stop.signal,
        onProgress: (phase, done) => {
          if (phase === "weights" && done === 120_000) stop.abort();
        },
      }),
    ).rejects.toMatchObject({
      code: "request_aborted",
      message: expect.stringMatching(/the same command goes on from there/),
    });
    server.setFault(null);
    server.requests.length = 0;
    const notices: string[] = [];
    await expectWhole(
      await download({ onNotice: (text) => notices.push(text) }),
    );
    expect(ranges()).toEqual(["bytes=120000-"]);
    expect(notices[0]).toMatch(/0\.1 MiB of 0\.3 MiB are there/);
  });

  it("begins anew at a server without ranges, and at one that ends early", async () => {
    mkdirSync(path.dirname(blob(WEIGHTS)), { recursive: true });
    writeFileSync(partialOf(blob(WEIGHTS)), WEIGHTS.subarray(0, 1000));
    server.setFault(({ server: which }) =>
      which === "storage" ? { ignoreRange: true } : undefined,
    );
    await expectWhole(await download());
  });

  it("fetches a damaged part again, once", async () => {
    mkdirSync(path.dirname(blob(WEIGHTS)), { recursive: true });
    writeFileSync(partialOf(blob(WEIGHTS)), Buffer.alloc(1000));
    let last = 0;
    await expectWhole(
      await download({ onProgress: (_phase, done) => (last = done) }),
    );
    expect(ranges()).toEqual(["bytes=1000-", undefined]);
    expect(last).toBe(WEIGHTS.length);
  });

  it("begins anew where more is there than the file has", async () => {
    mkdirSync(path.dirname(blob(WEIGHTS)), { recursive: true });
    writeFileSync(partialOf(blob(WEIGHTS)), Buffer.alloc(400_000));
    await expectWhole(await download());
    expect(ranges()).toEqual([undefined]);
  });

  it.each(["model.safetensors", "config.json"])(
    "refuses wrong bytes of %s and keeps nothing of them",
    async (name) => {
      server.setFault(({ server: which, file }) =>
        file === name && (which === "storage" || name === "config.json")
          ? { corrupt: true }
          : undefined,
      );
      await expect(download()).rejects.toMatchObject({
        code: "download_failed",
        message: expect.stringContaining(`${name} came with other contents`),
      });
      const bytes = FILES[name] ?? Buffer.alloc(0);
      const hash = name === "config.json" ? gitHash(bytes) : sha256(bytes);
      const blobs = await readdir(path.join(folder(), "blobs"));
      expect(blobs.filter((each) => each.startsWith(hash))).toEqual([]);
      server.setFault(null);
      await expectWhole(await download());
    },
  );

  it("tries again what may pass: 503 and 429, for the API and for files", async () => {
    const seen = new Map<string, number>();
    server.setFault(({ path: at }) => {
      const count = (seen.get(at) ?? 0) + 1;
      seen.set(at, count);
      if (count > 1) return undefined;
      return { status: 503, headers: { "retry-after": "0" } };
    });
    await expectWhole(await download());
  });

  it("gives up on a server that stays broken, with its status", async () => {
    server.setFault(({ server: which }) =>
      which === "storage"
        ? { status: 500, headers: { "retry-after": "0" } }
        : undefined,
    );
    await expect(download()).rejects.toThrow(
      /octavo-test\/tiny: the hub could not answer for model\.safetensors \(HTTP 500/,
    );
  });

  it("says what is wrong with the name, the revision or the token", async () => {
    await expect(download({ repo: "nobody/nothing" })).rejects.toMatchObject({
      code: "not_found",
      message: expect.stringMatching(/nobody\/nothing: no such model at http/),
    });
    await expect(download({ revision: "v9" })).rejects.toThrow(
      /knows the model but not revision v9/,
    );
    for (const revision of ["../../x", "/etc", "", "a b"])
      await expect(download({ revision })).rejects.toMatchObject({
        code: "invalid_config",
        param: "revision",
      });
    await restart(FILES, { token: "hub-token" });
    await expect(download()).rejects.toThrow(/a private one: those need/);
    await expect(download({}, { HF_TOKEN: "wrong" })).rejects.toThrow(
      /the account of HF_TOKEN may not see/,
    );
    await restart(FILES, { token: "hub-token", gated: true });
    await expect(download()).rejects.toThrow(/gated.*then set HF_TOKEN/);
    await expect(download({}, { HF_TOKEN: "wrong" })).rejects.toThrow(
      /gated, and the account of HF_TOKEN has no access/,
    );
  });

  it("sends the token to the hub and to nobody else", async () => {
    await restart(FILES, { token: "hub-token" });
    writeFileSync(path.join(home, "token"), "hub-token\n");
    await expectWhole(await download());
    for (const { server: which, authorization } of server.requests)
      expect(authorization).toBe(
        which === "hub" ? "Bearer hub-token" : undefined,
      );
  });

  it("refuses a repository without safetensors, configuration or tokenizer", async () => {
    const { "model.safetensors": _w, ...weightless } = FILES;
    await restart({ ...weightless, "model.gguf": Buffer.from("gguf") });
    await expect(download()).rejects.toThrow(
      /expected model\.safetensors or .*index\.json in the repository, got .*pytorch_model\.bin/,
    );
    const { "tokenizer.json": _t, ...mute } = FILES;
    await restart(mute);
    await expect(download()).rejects.toThrow(
      /the repository has no tokenizer\.json/,
    );
    expect(server.files()).toEqual([]);
  });

  it("checks the disk before it fetches the weights", async () => {
    await expect(download({ freeBytes: async () => 200_000 })).rejects.toThrow(
      /needs 0\.3 MiB more, but .* has 0\.2 MiB free/,
    );
    expect(ranges()).toEqual([]);
  });

  it("names a cache that cannot be written", async () => {
    writeFileSync(path.join(home, "file"), "");
    await expect(
      download({}, { HF_HUB_CACHE: path.join(home, "file/cache") }),
    ).rejects.toMatchObject({
      code: "download_failed",
      message: expect.stringContaining("cannot be used"),
    });
  });

  it("offline takes what is in the cache and asks nobody", async () => {
    const offline = { HF_HUB_OFFLINE: "1" };
    await expect(download({}, offline)).rejects.toThrow(
      /HF_HUB_OFFLINE is set, and the cache at .* has no revision main/,
    );
    const directory = await download();
    server.requests.length = 0;
    expect(await download({}, offline)).toBe(directory);
    expect(await download({ revision: server.commit }, offline)).toBe(
      directory,
    );
    rmSync(path.join(directory, "model.safetensors"));
    await expect(download({}, offline)).rejects.toThrow(
      /lacks model\.safetensors/,
    );
    expect(server.requests).toEqual([]);
  });

  it("says whether the cache could stand in for a hub that does not answer", async () => {
    const nobody = { HF_ENDPOINT: "http://127.0.0.1:2" };
    await expect(download({}, nobody)).rejects.toThrow(
      /cannot reach the hub at http:\/\/127\.0\.0\.1:2 for revision main: .*ECONNREFUSED.*no whole copy/,
    );
    await download();
    await expect(download({}, nobody)).rejects.toThrow(
      /set HF_HUB_OFFLINE=1 to use it/,
    );
  });

  it("lets two downloads of one model at once fetch it once", async () => {
    const notices: string[] = [];
    const both = await Promise.all(
      [0, 1].map(() => download({ onNotice: (text) => notices.push(text) })),
    );
    expect(both[0]).toBe(both[1]);
    await expectWhole(both[0] ?? "");
    expect(ranges()).toEqual([undefined]);
    expect(notices).toEqual([
      expect.stringMatching(/Another process \(\d+\) is downloading/),
    ]);
  });

  it("takes over the lock of a process that died, here or long ago", async () => {
    const locks = path.join(home, "hub/.locks/models--octavo-test--tiny");
    const file = path.join(locks, "octavo.lock");
    mkdirSync(locks, { recursive: true });
    // No process has a number beyond Linux's limit of 2^22.
    const dead = { id: "1", pid: 2 ** 22 + 1, host: os.hostname() };
    writeFileSync(file, JSON.stringify(dead));
    await expectWhole(await download());
    rmSync(folder(), { recursive: true });
    const elsewhere = { id: "2", pid: 1, host: "another-host" };
    writeFileSync(file, JSON.stringify(elsewhere));
    utimesSync(file, 1, 1);
    await expectWhole(await download());
    expect(await readdir(locks)).toEqual([]);
  });
});

describe("settings of the hub", () => {
  it("finds the cache where the hub's own tools do", () => {
    const cache = (environment: NodeJS.ProcessEnv): string =>
      hubSettings(environment).cacheDir;
    expect(cache({ HF_HUB_CACHE: "/a", HF_HOME: "/b" })).toBe("/a");
    expect(cache({ HUGGINGFACE_HUB_CACHE: "/c", HF_HOME: "/b" })).toBe("/c");
    expect(cache({ HF_HOME: "/b" })).toBe("/b/hub");
    expect(cache({ XDG_CACHE_HOME: "/x" })).toBe("/x/huggingface/hub");
    expect(cache({ HF_HOME: "~/hf" })).toBe(path.join(os.homedir(), "hf/hub"));
  });

  it("refuses what is no switch and no address, by name", () => {
    expect(hubSettings({ HF_HUB_OFFLINE: "yes" }).offline).toBe(true);
    expect(hubSettings({ HF_HUB_OFFLINE: "0" }).offline).toBe(false);
    expect(() => hubSettings({ HF_HUB_OFFLINE: "maybe" })).toThrow(
      /HF_HUB_OFFLINE: expected 1 or 0, got "maybe"/,
    );
    expect(() => hubSettings({ HF_ENDPOINT: "mirror" })).toThrow(
      /HF_ENDPOINT: expected http:\/\/HOST/,
    );
  });

  it("knows a hub name from a path", () => {
    for (const name of ["Qwen/Qwen2.5-0.5B-Instruct-AWQ", "a/b_c"])
      expect(isHubName(name)).toBe(true);
    for (const name of [
      "/a/b",
      "./a/b",
      "a",
      "a/b/c",
      "../a",
      "a/..",
      "a/b--c",
    ])
      expect(isHubName(name)).toBe(false);
  });
});
