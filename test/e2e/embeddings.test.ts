import { existsSync, mkdtempSync, rmSync } from "node:fs";
import os from "node:os";
import path from "node:path";
import { afterAll, describe, expect, it } from "vitest";
import { onnxFiles } from "../../src/core/onnx-files.js";
import { Encoder } from "../../src/encoder/encoder.js";
import { locateModel } from "../../src/loader/locate-model.js";
import {
  embeddingOf,
  MEAN_MODULES,
  tinyDirectory,
  tinyFiles,
  WORKER,
} from "../encoder/tiny-models.js";
import { hubServer } from "../support/hub-server.js";
import {
  hasShared,
  runOctavo,
  startServer,
  STORIES,
  type ServerProcess,
} from "./server-process.js";

interface EmbeddingAnswer {
  model: string;
  data: { embedding: number[] }[];
}

const post = (url: string, body: object): Promise<Response> =>
  fetch(url, {
    method: "POST",
    headers: { "content-type": "application/json" },
    body: JSON.stringify(body),
  });

describe.skipIf(!hasShared)(
  "octavo serve --embedding-model (needs ../shared/models/stories260k)",
  () => {
    let server: ServerProcess | null = null;
    afterAll(() => server?.stop("SIGKILL"));

    it("answers beside the text model, and ends in order", async () => {
      const encoder = tinyDirectory({ files: MEAN_MODULES });
      server = await startServer([
        STORIES,
        "--embedding-model",
        encoder,
        "--served-embedding-model-name",
        "text-embedding-3-small",
      ]);
      const { url } = server;
      expect(server.stderr()).toMatch(
        /Encoder +\S+ \(8 numbers, pooling: mean, normalized\), 32 tokens, [1-9]\d* threads/,
      );
      const [embedding, text] = await Promise.all([
        post(`${url}/v1/embeddings`, { input: "a cat sat" }),
        post(`${url}/v1/completions`, { prompt: "a", max_tokens: 8 }),
      ]);
      expect([embedding.status, text.status]).toEqual([200, 200]);
      const { model, data } = (await embedding.json()) as EmbeddingAnswer;
      expect(model).toBe("text-embedding-3-small");
      const expected = embeddingOf("a cat sat");
      data[0]?.embedding.forEach((value, i) =>
        expect(value).toBeCloseTo(expected[i] ?? 0, 5),
      );
      // What is under way at SIGTERM is answered.
      const input = Array<string>(2048).fill("a cat sat on the mat".repeat(3));
      let answered = false;
      const last = post(`${url}/v1/embeddings`, {
        input,
        truncate_prompt_tokens: -1,
      }).finally(() => (answered = true));
      const isPending = async (): Promise<boolean> =>
        /octavo_encoder_requests_pending\{[^}]*\} 1/.test(
          await (await fetch(`${url}/metrics`)).text(),
        );
      while (!answered && !(await isPending()));
      const ended = server.stop("SIGTERM");
      expect((await last).status).toBe(200);
      expect(await ended).toBe(0);
    });

    it("says what is wrong with its flags", async () => {
      const encoder = tinyDirectory();
      const cases: [string[], RegExp][] = [
        [["--embedding-model", "/nowhere"], /No model directory.*model\.onnx/],
        [
          [
            "--embedding-model",
            STORIES,
            "--served-embedding-model-name",
            "other",
          ],
          /expected onnx\/model\.onnx/,
        ],
        [["--served-embedding-model-name", "x"], /was not given/],
        [["--embedding-model-file", "model_q4.onnx"], /was not given/],
        [
          ["--embedding-model", encoder, "--embedding-model-file", "q4"],
          /expected the name of an ONNX file.*got "q4"/,
        ],
        [
          [
            "--embedding-model",
            encoder,
            "--served-embedding-model-name",
            "stories260k",
          ],
          /names the text model already/,
        ],
      ];
      for (const [flags, message] of cases) {
        const { code, stderr } = await runOctavo(["serve", STORIES, ...flags]);
        expect(code).toBe(1);
        expect(stderr).toMatch(message);
      }
    });
  },
);

describe("octavo serve --embedding-model without a text model", () => {
  let server: ServerProcess | null = null;
  afterAll(() => server?.stop("SIGKILL"));

  it("serves the encoder alone, and ends in order", async () => {
    const encoder = tinyDirectory({ files: MEAN_MODULES });
    server = await startServer(["--embedding-model", encoder]);
    const { url } = server;
    const shown = `${server.stdout()}${server.stderr()}`;
    expect(shown).toMatch(/Encoder .*onnx\/model\.onnx/);
    expect(shown).not.toMatch(/octavo-starter|KV cache/);
    const example = /Try: curl -N (\S+) .* -d '(.*)'/.exec(shown);
    const [, target = "", body = ""] = example ?? [];
    const answer = await post(target, JSON.parse(body) as object);
    expect(answer.status).toBe(200);
    expect(((await answer.json()) as EmbeddingAnswer).data).toHaveLength(2);
    expect((await post(`${url}/v1/completions`, {})).status).toBe(404);
    const models = await fetch(`${url}/v1/models`);
    const { data } = (await models.json()) as { data: { id: string }[] };
    expect(data.map(({ id }) => id)).toEqual(["tiny-encoder"]);
    expect(await server.stop("SIGTERM")).toBe(0);
  });

  it("takes no flags of a text model", async () => {
    const encoder = tinyDirectory();
    const cases: [string[], NodeJS.ProcessEnv, RegExp][] = [
      [["--max-model-len", "8"], {}, /--max-model-len .*a text model/],
      [[], { OCTAVO_DEVICE: "cpu" }, /--device \(OCTAVO_DEVICE\)/],
      [["--served-model-name", "x"], {}, /--served-embedding-model-name names/],
      [["--revision", "v1"], {}, /--revision belongs to a model by hub name/],
    ];
    for (const [flags, env, message] of cases) {
      const args = ["serve", "--embedding-model", encoder, ...flags];
      const { code, stderr } = await runOctavo(args, env);
      expect(code).toBe(1);
      expect(stderr).toMatch(message);
    }
  });
});

describe("an encoder by hub name", () => {
  it("is downloaded with its graph and its pooling, and nothing else", async () => {
    const home = mkdtempSync(path.join(os.tmpdir(), "octavo-hub-"));
    const files = tinyFiles({ external: true, files: MEAN_MODULES });
    const others = ["model.safetensors", "onnx/model_int8.onnx", "README.md"];
    const server = await hubServer({
      ...files,
      ...Object.fromEntries(others.map((name) => [name, Buffer.from("x")])),
    });
    const environment = { HF_HOME: home, HF_ENDPOINT: server.url };
    const name = "octavo-test/tiny";
    const find = (extra: object = {}, file?: string) =>
      locateModel(name, {
        graphs: onnxFiles(file),
        environment: { ...environment, ...extra },
      });
    const found = await find();
    for (const file of Object.keys(files))
      expect(existsSync(path.join(found.directory, file)), file).toBe(true);
    for (const file of others)
      expect(existsSync(path.join(found.directory, file)), file).toBe(false);
    await expect(find({}, "model_q4.onnx")).rejects.toMatchObject({
      code: "download_failed",
      message: expect.stringContaining(
        "got onnx/model.onnx, onnx/model_int8.onnx (",
      ) as string,
    });
    const offline = { HF_HUB_OFFLINE: "1" };
    await expect(find(offline, "model_int8.onnx")).rejects.toThrow(
      /lacks onnx\/model_int8\.onnx or model_int8\.onnx/,
    );
    expect(await find({}, "model_int8.onnx")).toEqual(found);
    expect(existsSync(path.join(found.directory, others[1] ?? ""))).toBe(true);
    server.close();
    expect(await find(offline)).toEqual(found);
    expect(await find(offline, "model_int8.onnx")).toEqual(found);
    // The graph and its floats are links into the cache: the runtime follows them.
    const encoder = await Encoder.load(found.directory, { workerUrl: WORKER });
    expect(encoder.info.pooling).toBe("mean");
    await encoder.close();
    rmSync(home, { recursive: true });
  });

  it("is refused where the repository has no graph", async () => {
    const home = mkdtempSync(path.join(os.tmpdir(), "octavo-hub-"));
    const server = await hubServer({
      "config.json": Buffer.from("{}"),
      "tokenizer.json": Buffer.from("{}"),
      "model.safetensors": Buffer.from("x"),
    });
    const found = locateModel("octavo-test/tiny", {
      graphs: onnxFiles(),
      environment: { HF_HOME: home, HF_ENDPOINT: server.url },
    });
    await expect(found).rejects.toMatchObject({
      code: "download_failed",
      message: expect.stringContaining("onnx/model.onnx or model.onnx"),
    });
    server.close();
    rmSync(home, { recursive: true });
  });
});
