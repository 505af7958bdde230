import {
  copyFileSync,
  mkdtempSync,
  readFileSync,
  rmSync,
  writeFileSync,
} from "node:fs";
import http from "node:http";
import os from "node:os";
import path from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import {
  hasShared,
  runOctavo,
  startServer,
  STORIES,
  type ServerProcess,
} from "./server-process.js";

const STORY_BEGINNING =
  " Once upon a time, there was a little girl named Lily. She loved to play outside in the park. One day, she saw a big, red ball.";

interface CompletionBody {
  choices: { text: string; finish_reason: string }[];
  usage: { prompt_tokens: number; completion_tokens: number };
}

async function complete(
  url: string,
  body: object,
  headers: Record<string, string> = {},
): Promise<CompletionBody> {
  const response = await fetch(`${url}/v1/completions`, {
    method: "POST",
    headers: { "content-type": "application/json", ...headers },
    body: JSON.stringify(body),
  });
  expect(response.status).toBe(200);
  return (await response.json()) as CompletionBody;
}

describe.skipIf(!hasShared)(
  "octavo serve, as its user starts it (needs ../shared/models/stories260k)",
  () => {
    const scratch = mkdtempSync(path.join(os.tmpdir(), "octavo-serve-"));
    let server: ServerProcess;

    beforeAll(async () => {
      server = await startServer([STORIES, "--max-num-seqs", "8"]);
    });
    afterAll(async () => {
      await server.stop("SIGKILL");
      rmSync(scratch, { recursive: true, force: true });
    });

    it("prints the address first on stdout, the plan and a line to paste", () => {
      const lines = server.stdout().split("\n");
      expect(lines[0]).toBe(`Octavo listening on ${server.url}`);
      expect(lines[1]).toContain("curl");
      expect(server.stderr()).toMatch(/KV cache\s+.*blocks of 16/);
    });

    it("tells the published Lily story at temperature 0, leading space included", async () => {
      const { choices } = await complete(server.url, {
        prompt: "",
        max_tokens: 100,
        temperature: 0,
      });
      expect(choices[0]?.text.startsWith(STORY_BEGINNING)).toBe(true);
    });

    it("streams the same text", async () => {
      const response = await fetch(`${server.url}/v1/completions`, {
        method: "POST",
        headers: { "content-type": "application/json" },
        body: JSON.stringify({
          prompt: "",
          max_tokens: 40,
          temperature: 0,
          stream: true,
        }),
      });
      const events = (await response.text())
        .split("\n\n")
        .filter((event) => event !== "");
      expect(events.at(-1)).toBe("data: [DONE]");
      const text = events
        .slice(0, -1)
        .map(
          (event) =>
            (JSON.parse(event.slice("data: ".length)) as CompletionBody)
              .choices[0]?.text ?? "",
        )
        .join("");
      const whole = await complete(server.url, {
        prompt: "",
        max_tokens: 40,
        temperature: 0,
      });
      expect(text).toBe(whole.choices[0]?.text);
    });

    it("runs 24 requests at once, each as if it were alone", async () => {
      const prompts = Array.from(
        { length: 24 },
        (_, i) =>
          `Once upon a time, there was a ${["cat", "dog", "frog"][i % 3]}`,
      );
      const ask = (prompt: string, seed: number): Promise<CompletionBody> =>
        complete(server.url, {
          prompt,
          max_tokens: 24,
          temperature: 0.8,
          seed,
        });
      const together = await Promise.all(
        prompts.map((prompt, i) => ask(prompt, i)),
      );
      for (const i of [0, 7, 23]) {
        const alone = await ask(prompts[i] ?? "", i);
        expect(together[i]?.choices[0]?.text).toBe(alone.choices[0]?.text);
      }
    });

    it("listens on a Unix socket with a key, all from a config file", async () => {
      const uds = path.join(scratch, "octavo.sock");
      const config = path.join(scratch, "octavo.yaml");
      writeFileSync(
        config,
        `model: ${STORIES}\nuds: ${uds}\napi-key: [secret]\nmax_num_seqs: 4\nserved-model-name: tales\n`,
      );
      const child = startServer(["--config", config]);
      const other = await child;
      try {
        expect(other.url).toBe(`unix:${uds}`);
        const ask = (key: string): Promise<{ status: number; body: string }> =>
          new Promise((resolve, reject) => {
            http
              .get(
                {
                  socketPath: uds,
                  path: "/v1/models",
                  headers: { authorization: `Bearer ${key}` },
                },
                (response) => {
                  let body = "";
                  response.on(
                    "data",
                    (chunk: Buffer) => (body += chunk.toString("utf8")),
                  );
                  response.on("end", () =>
                    resolve({ status: response.statusCode ?? 0, body }),
                  );
                },
              )
              .on("error", reject);
          });
        expect((await ask("wrong")).status).toBe(401);
        const models = await ask("secret");
        expect(models.status).toBe(200);
        expect(models.body).toContain('"id":"tales"');
      } finally {
        await other.stop("SIGKILL");
      }
    });

    it("lets a stream finish after SIGTERM, refuses new requests, and exits with 0", async () => {
      const other = await startServer([STORIES, "--max-num-seqs", "2"]);
      const response = await fetch(`${other.url}/v1/completions`, {
        method: "POST",
        headers: { "content-type": "application/json" },
        body: JSON.stringify({
          prompt: "",
          max_tokens: 400,
          temperature: 0,
          ignore_eos: true,
          stream: true,
          stream_options: { include_usage: true },
        }),
      });
      const end = other.stop("SIGTERM");
      const text = await response.text();
      expect(text).toContain('"completion_tokens":400');
      expect(text.trimEnd().endsWith("data: [DONE]")).toBe(true);
      expect(await end).toBe(0);
    });

    it("stops at once at the second signal", async () => {
      const other = await startServer([
        STORIES,
        "--device",
        "reference",
        "--shutdown-timeout",
        "60",
      ]);
      const { body } = await fetch(`${other.url}/v1/completions`, {
        method: "POST",
        headers: { "content-type": "application/json" },
        body: JSON.stringify({
          prompt: "",
          max_tokens: 500,
          // Enough of them not to be done when the second signal comes.
          n: 8,
          temperature: 0,
          ignore_eos: true,
          stream: true,
        }),
      });
      const reader = body?.getReader();
      await reader?.read();
      const cut = expect(async () => {
        while ((await reader?.read())?.done === false);
      }).rejects.toThrow();
      const first = other.stop("SIGINT");
      await new Promise((resolve) => setTimeout(resolve, 100));
      other.process.kill("SIGINT");
      expect(await first).toBe(130);
      await cut;
    });
  },
);

describe("octavo's command line refuses what it cannot do, in one line", () => {
  const cases: [string, string[], RegExp][] = [
    [
      "a missing directory",
      ["serve", "/nowhere"],
      /No model directory at "\/nowhere"/,
    ],
    [
      "an unknown flag",
      ["serve", "x", "--frobnicate"],
      /unknown option '--frobnicate'/,
    ],
    [
      "a value out of range",
      ["serve", "x", "--port", "70000"],
      /--port.*Expected a whole number from 0 to 65535, got "70000"/,
    ],
    [
      "whole prompts that a step has no room for",
      ["serve", "--no-enable-chunked-prefill", "--max-num-batched-tokens=64"],
      /--no-enable-chunked-prefill: expected --max-num-batched-tokens of at least (\d+), .* got 64\. Set --max-num-batched-tokens \1 or --max-model-len 64\./,
    ],
    [
      "whole prompts beside what cuts them",
      [
        ...["serve", "--no-enable-chunked-prefill"],
        "--long-prefill-token-threshold=20",
      ],
      /--no-enable-chunked-prefill: expected --long-prefill-token-threshold 0, got 20/,
    ],
    [
      "a block size without kernels",
      ["serve", "x", "--block-size", "32"],
      /--block-size.*Expected 16, got "32"/,
    ],
    ["an unknown command", ["frobnicate"], /unknown command 'frobnicate'/],
  ];
  it.each(cases)("%s", async (_name, args, message) => {
    const { code, stdout, stderr } = await runOctavo(args);
    expect(code).toBe(1);
    expect(stdout).toBe("");
    expect(stderr).toMatch(message);
  });

  it("wrong values in the environment and in the config file, with their names", async () => {
    const environment = await runOctavo(["serve", "x"], {
      OCTAVO_MAX_NUM_SEQS: "many",
    });
    expect(environment.stderr).toMatch(/OCTAVO_MAX_NUM_SEQS|--max-num-seqs/);
    const scratch = mkdtempSync(path.join(os.tmpdir(), "octavo-config-"));
    const file = path.join(scratch, "bad.yaml");
    writeFileSync(file, "max-num-seqs: many\n");
    const config = await runOctavo(["serve", "x", "--config", file]);
    expect(config.stderr).toMatch(
      /bad\.yaml: max-num-seqs: Expected a whole number/,
    );
    writeFileSync(file, "max-seqs: 3\n");
    const unknown = await runOctavo(["serve", "x", "--config", file]);
    expect(unknown.stderr).toMatch(/unknown key "max-seqs"/);
    rmSync(scratch, { recursive: true });
  });

  it("switches in the environment that say neither true nor false, or what does not fit the rest", async () => {
    const maybe = await runOctavo(["serve", "x"], {
      OCTAVO_ENABLE_PREFIX_CACHING: "maybe",
    });
    expect(maybe.code).toBe(1);
    expect(maybe.stderr).toMatch(
      /OCTAVO_ENABLE_PREFIX_CACHING: expected true, false, 1 or 0, got "maybe"/,
    );
    const unchunked = await runOctavo(["serve"], {
      OCTAVO_ENABLE_CHUNKED_PREFILL: "false",
      OCTAVO_LONG_PREFILL_TOKEN_THRESHOLD: "20",
    });
    expect(unchunked.code).toBe(1);
    expect(unchunked.stderr).toMatch(
      /--long-prefill-token-threshold 0, got 20/,
    );
  });

  it.skipIf(!hasShared)(
    "no prefix cache where the environment turns it off, unless the command line turns it on",
    async () => {
      const cachesPrefixes = async (args: string[]): Promise<boolean> => {
        const server = await startServer([STORIES, ...args], {
          OCTAVO_ENABLE_PREFIX_CACHING: "false",
        });
        const text = await (await fetch(`${server.url}/metrics`)).text();
        await server.stop("SIGKILL");
        return /cache_config_info\{[^}]*enable_prefix_caching="True"/.test(
          text,
        );
      };
      expect(await cachesPrefixes([])).toBe(false);
      expect(await cachesPrefixes(["--enable-prefix-caching"])).toBe(true);
    },
  );

  it.skipIf(!hasShared)(
    "a model without a tokenizer, while its weights load",
    async () => {
      const scratch = mkdtempSync(path.join(os.tmpdir(), "octavo-model-"));
      for (const file of ["config.json", "model.safetensors"])
        copyFileSync(path.join(STORIES, file), path.join(scratch, file));
      const { code, stderr } = await runOctavo(["serve", scratch]);
      expect(code).toBe(1);
      expect(stderr).toMatch(/tokenizer\.json: expected the tokenizer/);
      rmSync(scratch, { recursive: true });
    },
  );

  it("names its version", async () => {
    const { stdout } = await runOctavo(["--version"]);
    const { version } = JSON.parse(readFileSync("package.json", "utf8")) as {
      version: string;
    };
    expect(stdout.trim()).toBe(version);
  });
});
