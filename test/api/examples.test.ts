import { execFile } from "node:child_process";
import {
  mkdirSync,
  mkdtempSync,
  readFileSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import path from "node:path";
import { promisify } from "node:util";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { checkLoadOptions } from "../../src/api/load-options.js";
import { MAIN } from "../e2e/server-process.js";
import { denseModel, removeTemporaryFolders } from "../quantize/support.js";

const root = path.resolve(path.dirname(MAIN), "../../..");
const guide = readFileSync(path.join(root, "docs/node-api.md"), "utf8");
const programs = [...guide.matchAll(/^```js\n([^]*?)^```$/gm)].map(
  ([, code]) => code ?? "",
);

/** What the programs print, in the order of the page. */
const EXPECTED = [
  /^[a-z ,.\n]+\n$/,
  /^octavo-\S+ 64 32\n$/,
  /^(\d+ ".*"\n){3}$/,
  /^[a-z ,.\n]*\n$/,
  /^5 hello\n$/,
  /^invalid_request temperature\nrequest_aborted\n$/,
];

it("docs/node-api.md names every option of load", () => {
  let told = "";
  try {
    checkLoadOptions({ nothing: 1 } as object);
  } catch (error) {
    told = String(error);
  }
  const options = told.split("expected one of ")[1]?.split(", ") ?? [];
  expect(options).toContain("speculativeConfig");
  for (const option of options) expect(guide).toContain(`\`${option}\``);
});

describe("the programs of docs/node-api.md", () => {
  let project: string;
  let model: string;

  beforeAll(() => {
    project = mkdtempSync(path.join(tmpdir(), "octavo-project-"));
    mkdirSync(path.join(project, "node_modules"));
    symlinkSync(root, path.join(project, "node_modules/octavo"), "dir");
    model = denseModel();
  });
  afterAll(() => {
    rmSync(project, { recursive: true, force: true });
    removeTemporaryFolders();
  });

  it("are all expected", () => {
    expect(programs).toHaveLength(EXPECTED.length);
  });

  it.each(EXPECTED.map((expected, i) => [i + 1, expected] as const))(
    "number %i runs in a project of its own, and ends by itself",
    async (number, expected) => {
      const file = path.join(project, `example-${number}.mjs`);
      writeFileSync(file, programs[number - 1] ?? "");
      const { stdout } = await promisify(execFile)(
        process.execPath,
        [file, model],
        { cwd: project, timeout: 50_000 },
      );
      expect(stdout).toMatch(expected);
    },
  );
});
