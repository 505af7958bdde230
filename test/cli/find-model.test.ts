import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import os from "node:os";
import path from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { findModel } from "../../src/cli/find-model.js";
import { hubServer, type HubServer } from "../support/hub-server.js";

describe("what MODEL stands for", () => {
  const scratch = mkdtempSync(path.join(os.tmpdir(), "octavo-find-"));
  const starterDirectory = path.join(scratch, "starter");
  let hub: HubServer;
  let environment: NodeJS.ProcessEnv;

  beforeAll(async () => {
    hub = await hubServer({
      "config.json": Buffer.from("{}"),
      "tokenizer.json": Buffer.from("{}"),
      "model.safetensors": Buffer.from("weights"),
    });
    environment = { HF_HOME: scratch, HF_ENDPOINT: hub.url };
  });
  afterAll(() => {
    hub.close();
    rmSync(scratch, { recursive: true, force: true });
  });

  it("a directory, under its own name", async () => {
    expect(await findModel(scratch)).toEqual({
      directory: scratch,
      name: path.basename(scratch),
    });
    expect(await findModel(`${scratch}/`)).toEqual({
      directory: scratch,
      name: path.basename(scratch),
    });
  });

  it("nothing: the built-in model, where there is one", async () => {
    await expect(
      findModel(undefined, { starterDirectory }),
    ).rejects.toMatchObject({
      code: "invalid_config",
      message: expect.stringMatching(
        /Name a model: a directory .* The built-in one is missing from .*starter/,
      ),
    });
    mkdirSync(starterDirectory);
    writeFileSync(path.join(starterDirectory, "config.json"), "{}");
    for (const none of [undefined, "octavo-starter"])
      expect(await findModel(none, { starterDirectory })).toEqual({
        directory: starterDirectory,
        name: "octavo-starter",
      });
  });

  it("a hub name: its snapshot, under the hub name; the revision counts", async () => {
    const found = await findModel("octavo-test/tiny", { environment });
    expect(found.name).toBe("octavo-test/tiny");
    expect(path.basename(found.directory)).toBe(hub.commit);
    await expect(
      findModel("octavo-test/tiny", { environment, revision: "v2" }),
    ).rejects.toThrow(/but not revision v2/);
  });

  it("a directory before a hub name", async () => {
    const before = process.cwd();
    mkdirSync(path.join(scratch, "octavo-test/tiny"), { recursive: true });
    process.chdir(scratch);
    try {
      hub.requests.length = 0;
      const { directory } = await findModel("octavo-test/tiny", {
        environment,
      });
      expect(path.relative(scratch, directory)).toBe("octavo-test/tiny");
      expect(hub.requests).toEqual([]);
    } finally {
      process.chdir(before);
    }
  });

  it("refuses what is neither, and a revision of what has none", async () => {
    await expect(findModel("/nowhere")).rejects.toThrow(
      /No model directory at "\/nowhere".*or a hub name \(OWNER\/NAME\)/,
    );
    await expect(findModel("gpt2")).rejects.toThrow(/No model directory/);
    await expect(findModel("some/typo", { environment })).rejects.toThrow(
      /no such model at .* There is no directory some\/typo/,
    );
    await expect(
      findModel(scratch, { revision: "main" }),
    ).rejects.toMatchObject({ code: "invalid_config", param: "revision" });
  });
});
