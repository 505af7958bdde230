import {
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
} from "node:fs";
import os from "node:os";
import path from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { hubServer, type HubServer } from "../support/hub-server.js";
import {
  hasShared,
  runOctavo,
  startOctavo,
  startServer,
  STORIES,
} from "./server-process.js";

const HELD = 400_000;
const REPO = "octavo-test/tiny";

describe.skipIf(!hasShared)(
  "octavo serve OWNER/NAME (needs ../shared/models/stories260k)",
  () => {
    const home = mkdtempSync(path.join(os.tmpdir(), "octavo-hub-serve-"));
    const source: Record<string, Buffer> = {};
    let hub: HubServer;
    let environment: NodeJS.ProcessEnv;

    beforeAll(async () => {
      for (const name of readdirSync(STORIES))
        if (statSync(path.join(STORIES, name)).isFile())
          source[name] = readFileSync(path.join(STORIES, name));
      hub = await hubServer(source, { repo: REPO });
      environment = { HF_HOME: home, HF_ENDPOINT: hub.url };
    });
    afterAll(() => {
      hub.close();
      rmSync(home, { recursive: true, force: true });
    });

    const partialSize = (): number => {
      const blobs = path.join(home, "hub/models--octavo-test--tiny/blobs");
      try {
        const name = readdirSync(blobs).find((each) =>
          each.endsWith(".octavo-incomplete"),
        );
        return name === undefined ? 0 : statSync(path.join(blobs, name)).size;
      } catch {
        return 0;
      }
    };
    const startAndEnd = async (signal: NodeJS.Signals) => {
      const before = partialSize();
      const {
        process: child,
        ended,
        stderr,
      } = startOctavo(["serve", REPO], environment);
      while (partialSize() < before + HELD && child.exitCode === null)
        await new Promise((resolve) => setTimeout(resolve, 20));
      child.kill(signal);
      return { end: await ended, stderr: stderr() };
    };

    it("downloads, killed and stopped on the way, goes on where it was and serves", async () => {
      hub.setFault(({ server, file }) =>
        server === "storage" && file === "model.safetensors"
          ? { holdAfter: HELD }
          : undefined,
      );
      expect((await startAndEnd("SIGKILL")).end).toBe("SIGKILL");
      const stopped = await startAndEnd("SIGINT");
      expect(stopped.end).toBe(130);
      expect(stopped.stderr).toMatch(/the same command goes on from there/);
      hub.setFault(null);

      const server = await startServer([REPO], environment);
      try {
        const weights = hub
          .files()
          .filter(({ file }) => file === "model.safetensors");
        expect(weights.map(({ range }) => range)).toEqual([
          undefined,
          `bytes=${HELD}-`,
          `bytes=${2 * HELD}-`,
        ]);
        expect(server.stderr()).toMatch(/Going on with octavo-test\/tiny/);
        const snapshot = path.join(
          home,
          "hub/models--octavo-test--tiny/snapshots",
          hub.commit,
        );
        for (const name of readdirSync(snapshot)) {
          const same = readFileSync(path.join(snapshot, name)).equals(
            source[name] ?? Buffer.alloc(0),
          );
          expect([name, same]).toEqual([name, true]);
        }
        const answer = await fetch(`${server.url}/v1/completions`, {
          method: "POST",
          headers: { "content-type": "application/json" },
          body: JSON.stringify({
            model: REPO,
            prompt: "",
            max_tokens: 20,
            temperature: 0,
          }),
        });
        expect(await answer.text()).toContain(
          "Once upon a time, there was a little girl",
        );
      } finally {
        await server.stop("SIGKILL");
      }
    });

    it("starts from the cache without asking for a file, and offline without a hub", async () => {
      hub.requests.length = 0;
      const again = await startServer([REPO], environment);
      await again.stop("SIGKILL");
      expect(hub.files()).toEqual([]);
      hub.requests.length = 0;
      const offline = await startServer([REPO, "--revision", "main"], {
        ...environment,
        HF_HUB_OFFLINE: "1",
      });
      await offline.stop("SIGKILL");
      expect(hub.requests).toEqual([]);
    });

    it("is what other commands take as well", async () => {
      const doctor = await runOctavo(["doctor", REPO, "--json"], {
        ...environment,
        HF_HUB_OFFLINE: "1",
      });
      const { model } = JSON.parse(doctor.stdout) as {
        model: { directory: string };
      };
      expect(path.basename(model.directory)).toBe(hub.commit);
    });

    it("says in one line what the hub does not have", async () => {
      const { code, stderr } = await runOctavo(
        ["serve", "octavo-test/other"],
        environment,
      );
      expect(code).toBe(1);
      expect(stderr).toMatch(
        /^octavo: octavo-test\/other: no such model at http\S+,.*There is no directory octavo-test\/other here either\.\n$/,
      );
    });
  },
);
