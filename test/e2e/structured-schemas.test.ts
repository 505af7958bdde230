/**
 * Every schema of the JSON Schema test suite (draft 2020-12): refused with a 400 that names a place in it, or accepted,
 * and then whatever ends by itself at temperature 1 is valid. Long: all schemas, 20 outputs each.
 */
import { existsSync, readdirSync, readFileSync } from "node:fs";
import path from "node:path";
import { Ajv2020 } from "ajv/dist/2020.js";
import type { ValidateFunction } from "ajv";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { SHARED, startServer, STORIES } from "./server-process.js";
import type { ServerProcess } from "./server-process.js";

const SUITE = path.join(SHARED, "schemas/json-schema-test-suite/draft2020-12");
const STARTER = "models/starter";
const long = Boolean(process.env["OCTAVO_LONG"]);
const NUM_OUTPUTS = long ? 20 : 2;
/** The quick form takes every so many-th schema. */
const STRIDE = long ? 1 : 6;

interface Case {
  name: string;
  schema: unknown;
}

function readSuite(): Case[] {
  const files = readdirSync(SUITE, { recursive: true, encoding: "utf8" });
  return files
    .filter((file) => file.endsWith(".json"))
    .sort()
    .flatMap((file) => {
      const text = readFileSync(path.join(SUITE, file), "utf8");
      const groups = JSON.parse(text) as {
        description: string;
        schema: unknown;
      }[];
      return groups.map(({ description, schema }) => ({
        name: `${file}: ${description}`,
        schema,
      }));
    });
}

interface Answer {
  status: number;
  body: {
    error?: { param: string | null; message: string };
    choices?: { text: string; finish_reason: string }[];
  };
}

async function ask(
  url: string,
  schema: unknown,
  seed: number,
): Promise<Answer> {
  const response = await fetch(`${url}/v1/completions`, {
    method: "POST",
    headers: { "content-type": "application/json" },
    body: JSON.stringify({
      prompt: "A value:",
      max_tokens: 96,
      temperature: 1,
      n: NUM_OUTPUTS,
      seed,
      structured_outputs: { json: schema },
    }),
  });
  const body = (await response.json()) as Answer["body"];
  return { status: response.status, body };
}

function compiled(schema: unknown): ValidateFunction {
  // ownProperties: a property named toString is not one that every object has.
  const ajv = new Ajv2020({
    strict: false,
    validateFormats: false,
    ownProperties: true,
    logger: false,
  });
  return ajv.compile(schema as object);
}

describe.skipIf(!existsSync(SUITE) || !existsSync(STORIES))(
  "schemas of the JSON Schema test suite (needs ../shared)",
  () => {
    const cases = existsSync(SUITE)
      ? readSuite().filter((_, i) => i % STRIDE === 0)
      : [];
    let server: ServerProcess;

    beforeAll(async () => {
      const starter = existsSync(path.join(STARTER, "model.safetensors"));
      server = await startServer([starter ? STARTER : STORIES]);
    });
    afterAll(async () => {
      await server.stop("SIGKILL");
    });

    it(
      "are refused by name, or every output that ends is valid",
      { timeout: long ? 3_600_000 : 120_000 },
      async () => {
        let refused = 0;
        let ended = 0;
        let cut = 0;
        for (const [i, { name, schema }] of cases.entries()) {
          const { status, body } = await ask(server.url, schema, i);
          if (status === 400) {
            refused++;
            // The HTTP server takes no JSON with such a key at all.
            if (JSON.stringify(schema).includes('"__proto__"')) continue;
            expect(
              String(body.error?.param),
              `${name}: ${body.error?.message}`,
            ).toMatch(/^structured_outputs\.json/);
            continue;
          }
          expect(status, `${name}: ${JSON.stringify(body)}`).toBe(200);
          const validate = compiled(schema);
          for (const choice of body.choices ?? []) {
            if (choice.finish_reason === "length") {
              cut++;
              continue;
            }
            ended++;
            const value: unknown = JSON.parse(choice.text);
            expect(
              validate(value),
              `${name}: ${choice.text} of ${JSON.stringify(schema)}`,
            ).toBe(true);
          }
        }
        const accepted = cases.length - refused;
        console.log(
          `${cases.length} schemas: ${accepted} accepted, ${refused} refused; ` +
            `${ended + cut} outputs, ${ended} valid, ${((100 * cut) / (ended + cut)).toFixed(1)} % cut by length`,
        );
        expect(accepted).toBeGreaterThan(cases.length / 4);
        expect(ended).toBeGreaterThan(cut);
      },
    );
  },
);
