/** The package's types as a program of somebody else compiles against them: every declaration is checked. */
import {
  existsSync,
  mkdirSync,
  mkdtempSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import path from "node:path";
import ts from "typescript";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { MAIN } from "../e2e/server-process.js";

const root = path.resolve(path.dirname(MAIN), "../../..");

const PROGRAM = `
import { Octavo, OctavoError } from "octavo";
import type { ChatResult, LoadOptions } from "octavo";

const options: LoadOptions = { device: "cpu", onProgress: () => undefined };
const octavo = await Octavo.load("/some/model", options);
let text = "";
for await (const event of octavo.generate("a", { max_tokens: 3, seed: 1 }))
  text += event.text;
const run = octavo.chat([{ role: "user", content: text }], { n: 2 });
const result: ChatResult = await run.result;
const content: string | null = result.choices[0]!.message.content;
// @ts-expect-error: not a number
octavo.generate("a", { max_tokens: "3" });
// @ts-expect-error: no such function
octavo.speak(content);
const code: string = new OctavoError("not_found", "x").code;
await octavo.close();
console.log(code);
`;

describe.skipIf(!existsSync(path.join(root, "dist")))(
  "types (need dist/)",
  () => {
    let folder: string;

    beforeAll(() => {
      folder = mkdtempSync(path.join(tmpdir(), "octavo-types-"));
      mkdirSync(path.join(folder, "node_modules"));
      symlinkSync(root, path.join(folder, "node_modules/octavo"));
      writeFileSync(path.join(folder, "package.json"), '{"type":"module"}');
      writeFileSync(path.join(folder, "main.ts"), PROGRAM);
    });
    afterAll(() => rmSync(folder, { recursive: true, force: true }));

    it("compile without skipLibCheck", { timeout: 180_000 }, () => {
      const main = path.join(folder, "main.ts");
      const program = ts.createProgram([main], {
        module: ts.ModuleKind.NodeNext,
        moduleResolution: ts.ModuleResolutionKind.NodeNext,
        target: ts.ScriptTarget.ES2022,
        lib: ["lib.es2022.d.ts"],
        strict: true,
        skipLibCheck: false,
        noEmit: true,
        types: ["node"],
        typeRoots: [path.join(root, "node_modules/@types")],
      });
      const told = ts
        .getPreEmitDiagnostics(program)
        .map(
          ({ file, messageText }) =>
            `${file?.fileName}: ${ts.flattenDiagnosticMessageText(messageText, " ")}`,
        );
      expect(told).toEqual([]);
      // It did find them.
      const files = program.getSourceFiles().map(({ fileName }) => fileName);
      expect(files.some((name) => name.endsWith("api/octavo.d.ts"))).toBe(true);
    });
  },
);
